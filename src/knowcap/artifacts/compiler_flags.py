"""Flags of the C compiler. They are part of the code digest of stages that use C."""

FLAGS = (
    "-O3",
    "-march=native",
    "-std=gnu11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",  # vector types are not passed between libraries
    "-fno-semantic-interposition",  # internal calls are not replaced by libc
)
"""With these flags, results depend only on the source, the compiler and the processor."""
