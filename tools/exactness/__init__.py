"""Measures how far libraries are from the truth in 50 digits, and writes docs/exactness.md: `make exactness`.

samples: inputs that grow in one direction. truth: their exact results. libraries: who computes them. measure: relative
errors. pictures and page: what a reader sees.
"""
