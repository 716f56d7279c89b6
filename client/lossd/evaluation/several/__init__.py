"""Several servers that compute the blocks of one evaluation."""
