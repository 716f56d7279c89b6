"""Identity: who calls, and what a caller may have. Asked in one place, before anything is routed (`gate`)."""
