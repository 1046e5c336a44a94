"""That the documents say what is so."""
