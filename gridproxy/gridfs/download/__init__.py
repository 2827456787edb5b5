"""From chunks to the caller."""
