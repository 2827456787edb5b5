"""Maintenance of a bucket: `check` reports problems, `collect_garbage` deletes leftovers."""
