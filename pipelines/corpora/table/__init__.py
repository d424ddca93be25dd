"""Corpora without code: the parser `table` reads annotation tables, or folders whose names say everything."""
