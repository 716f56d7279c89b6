"""HTTP port: metrics, health, losses and pages for people and programs that do not speak gRPC, in its own thread."""
