"""The clients' methods from one table: `python -m signatures` writes them, `--check` says whether they are fresh."""
