"""The text family: TKRE's configuration, models, processor, and its two stages' trainers."""
