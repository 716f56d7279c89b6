"""Test vectors for clients in any language: requests, and what 50 digits say of them, as files of JSON.

`python -m vectors` writes tests/vectors, `--check` says whether it is fresh. tests/vectors/README.md has the format.
"""
