"""Two runs of an evaluation compared."""
