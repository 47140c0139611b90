"""Names, digests, locks, and atomic reading and writing of result files."""
