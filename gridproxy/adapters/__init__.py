"""Fields of documents: one thin adapter for each ODM; none imports another."""
