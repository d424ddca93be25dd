"""Samples tables: schema, ingest, audit, labels, tombstones."""
