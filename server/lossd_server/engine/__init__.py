"""The engine: which jobs run together, and running them."""
