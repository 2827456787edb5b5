"""From the caller's source to chunks and one record."""
