"""``tkre serve``: a page in the browser that extracts relations with a checkpoint, and the Space that it can be."""
