"""PF-HIN, the network family: a transformer pre-trained on typed graphs, and heads for its four tasks."""
