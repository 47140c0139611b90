"""The layouts: how processes and GPUs share a model, its data and its checkpoints."""
