"""Planning of a study: cost, training time, parallelism, progress and profile options."""
