"""Check, garbage collection and deletion of a store."""
