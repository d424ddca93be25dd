"""Ingest of corpora: service, audit tables and Prefect flow."""
