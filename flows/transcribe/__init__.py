"""Transcripts for samples that have none: service and Prefect flow."""
