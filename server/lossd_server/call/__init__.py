"""The contract between a front and what is above it."""
