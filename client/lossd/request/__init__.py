"""Requests: from arguments to a message. Tensors, options, and where gradients go."""
