"""Open Inference Protocol: the losses as models, on the same port and by the same path."""
