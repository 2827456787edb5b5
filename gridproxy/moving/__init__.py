"""Files that move: from bucket to bucket, to a folder or a URL, and back."""
