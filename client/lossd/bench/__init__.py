"""`lossd bench`: measures throughput and latency of a server, and checks every answer.

command → plan (levels), workload (requests and the right answers) → drive (closed and open loops, through a
sender) → windows (when is it steady?) → measured → table, report, plot. All but drive and senders is pure.
"""
