"""Jobs: one validated request each, its slices, denominators and sums."""
