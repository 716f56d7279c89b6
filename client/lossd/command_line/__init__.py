"""Command line: the parser and the standard streams of every `lossd` command."""
