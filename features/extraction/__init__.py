"""From media to vectors: reader, stages, encoder, writer of a shard."""
