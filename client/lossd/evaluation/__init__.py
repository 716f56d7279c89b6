"""`lossd eval`: computes the loss of files block by block, with accuracy, calibration and the worst rows.

command → files (arrays on disk) → blocks (what fits a message) → run (a server computes) → table, report, plot.
"""
