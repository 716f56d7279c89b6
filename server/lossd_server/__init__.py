"""The lossd server: losses computed over gRPC. `lossd serve` starts it (`serve.main`)."""
