"""Chaos: every way to call a server, while servers, clients, connections and files fail; every answer is compared.

`make chaos CHAOS_SECONDS=600 CHAOS_SEED=1`. See docs/faults.md.
"""
