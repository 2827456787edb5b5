"""Fields of documents: one thin adapter for each ODM. None imports another."""
