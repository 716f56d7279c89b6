"""Fronts: the ways in which calls come in and go out."""
