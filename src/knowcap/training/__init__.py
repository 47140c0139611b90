"""Training of one run: steps, checkpoints, metrics, processes and the published run folder."""
