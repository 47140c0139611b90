"""The lanes: a whole training step of tiny models in C, a replicate in each lane of a vector."""
