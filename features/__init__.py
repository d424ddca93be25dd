"""Samples -> feature store -> matrices and SQL."""
