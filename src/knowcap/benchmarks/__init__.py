"""How fast this is, measured beside what one would otherwise use (docs/performance.md)."""
