"""`lossd bench`: load and latency of a server, every answer checked.

command → plan (levels), workload (requests and what they must answer) → drive (closed and open loops, through a
sender) → windows (when is it steady?) → measured → table, document, plot. All but drive and senders is pure.
"""
