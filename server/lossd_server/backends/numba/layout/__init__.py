"""How rows and elements are brought to the vectors that compute them."""
