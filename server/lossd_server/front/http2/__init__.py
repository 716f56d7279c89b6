"""Front of our own: gRPC over HTTP/2. Everything but `protocol`, `call` and `front` is without input and output.

`docs/http2.md` says which clause of RFC 9113, RFC 7541 and gRPC's protocol each file answers for.
"""
