"""AsyncGridFile: one object that stands for one file."""
