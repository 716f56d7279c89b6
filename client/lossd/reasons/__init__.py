"""Reasons of errors: the one table of what a refusal means, and what to do about it."""
