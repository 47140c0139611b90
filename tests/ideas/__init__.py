"""Pages on ideas of one's own, followed to the letter."""
