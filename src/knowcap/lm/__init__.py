"""The machine: Megatron-core models, their training, and what they lose on each fact."""
