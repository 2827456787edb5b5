"""What the bytes of a file are: types, limits, pictures. No I/O."""
