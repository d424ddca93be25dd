"""Miniature corpora with real media."""
