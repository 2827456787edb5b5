"""The adapter API: what documents and files owe each other."""
