"""The records of GridFS: the file document, ids and chunks. No I/O."""
