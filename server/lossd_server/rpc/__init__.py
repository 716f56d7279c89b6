"""What a unary call means, whatever carried it."""
