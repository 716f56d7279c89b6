"""What every transport says on the wire beside the messages, and when it is said again."""
