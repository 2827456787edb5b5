"""Fields of documents: one thin adapter an ODM; none imports another."""
