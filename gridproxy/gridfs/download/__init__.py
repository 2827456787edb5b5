"""Reads stored files: planned ranges of chunks, streams, readers and local files."""
