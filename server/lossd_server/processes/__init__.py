"""Several worker processes behind one port, and memory as the C library keeps it."""
