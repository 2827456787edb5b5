"""Records, ids and chunks as values. No I/O."""
