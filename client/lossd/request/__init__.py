"""From arguments to a request: tensors, options, and where gradients go."""
