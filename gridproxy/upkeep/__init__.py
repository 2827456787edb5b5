"""Upkeep: what is wrong in a bucket, and what is left over. See `findings` for what is told of it."""
