"""Engines that make optimizer steps: stacked PyTorch, CUDA graphs, SIMD code in C, Megatron."""
