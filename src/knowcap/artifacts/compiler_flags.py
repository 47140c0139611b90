"""Flags of the C compiler, which are part of the digest of C code."""

FLAGS = (
    "-O3",
    "-march=native",
    "-std=gnu11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",  # no vector type is passed between libraries
    "-fno-semantic-interposition",  # a function calls its neighbour, not libc's of that name
)
"""With these, results depend on source, compiler and processor alone."""
