"""Kernels of rows with a softmax: cross-entropy, entropy of logits, activations."""
