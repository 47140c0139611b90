"""The machine: Megatron-core models, their training, and what they lose on each fact."""

import atexit
import gc

# What this package imports makes a million objects that stay. Looking through them for those that
# may go took a fifth of a start, and as long at the end.
gc.set_threshold(100_000, 50, 50)
atexit.register(gc.freeze)
