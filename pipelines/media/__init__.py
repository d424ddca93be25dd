"""Decoding of sound and pictures, in child processes."""
