"""One parser per corpus: native annotation files -> samples."""
