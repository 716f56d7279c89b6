"""Files as arrays that are read by ranges of rows."""
