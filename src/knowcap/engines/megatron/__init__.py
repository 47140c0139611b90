"""Training of a run by several processes with Megatron: TP, PP, EP and DP."""
