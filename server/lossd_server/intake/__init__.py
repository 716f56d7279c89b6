"""Intake: what unary calls and streams do alike with a request."""
