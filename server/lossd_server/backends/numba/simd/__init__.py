"""Explicit SIMD: vectors, their operations, elementary functions, loads and stores."""
