"""Model and data cards, and publishing on the Hub."""
