"""Language model: stacked replicates, optimizer, Megatron configuration, numbers of parameters."""
