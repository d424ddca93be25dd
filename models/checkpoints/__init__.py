"""Weights on disk and on the hub."""
