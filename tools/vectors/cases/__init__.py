"""The cases themselves: right ones by loss, and refusals."""
