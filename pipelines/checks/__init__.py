"""Checks of ingested samples: ids, labels, media, and what splits share."""
