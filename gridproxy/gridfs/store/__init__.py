"""The two collections of a bucket and their indexes."""
