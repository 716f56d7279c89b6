"""Data layout: how rows and elements are brought to the vectors that compute them."""
