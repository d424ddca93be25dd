"""Extraction of shards: jobs, queue, task runners, service and Prefect flow."""
