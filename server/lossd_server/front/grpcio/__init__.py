"""The front made of grpc.aio."""
