"""Evaluations on a stream: what is sent, what came back, what is sent again."""
