"""Corpus statistics beside the published ones."""
