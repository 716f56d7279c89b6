"""`lossd eval`: computes the loss of files block by block, with accuracy, calibration and the worst rows.

command → readers (arrays on disk) → blocks (what fits a message) → run (a server, or `several`, computes) → reports.
"""
