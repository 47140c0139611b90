"""Training steps of small models in C: one replicate per SIMD lane."""
