"""Rules about the content of files: media types, limits and pictures. No I/O."""
