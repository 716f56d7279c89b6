"""Configuration: settings, addresses, logs, the machine."""
