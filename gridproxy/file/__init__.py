"""AsyncGridFile: one object that represents one file."""
