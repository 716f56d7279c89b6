"""Metrics: numbers in shared memory, which the event loop counts and a scrape reads. The one table is in `table`."""
