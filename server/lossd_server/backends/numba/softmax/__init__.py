"""Softmax kernels: cross-entropy, the entropy of logits, activations."""
