"""Bytes to fields, answers to bytes, errors to statuses."""
