"""Telemetry: who looks on while calls are served."""
