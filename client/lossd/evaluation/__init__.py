"""`lossd eval`: the loss of files, in blocks of rows, with what else the rows tell.

command → files (arrays on disk) → blocks (what fits a message) → run (a server computes) → table, document, plot.
"""
