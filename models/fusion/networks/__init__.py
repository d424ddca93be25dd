"""Fusion networks: the registry, and those that are built in beside the paper's."""
