"""What a run makes, from what, in which order and at what cost; nothing here computes a result."""
