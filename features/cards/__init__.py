"""Coverage of a store and data cards of its corpora."""
