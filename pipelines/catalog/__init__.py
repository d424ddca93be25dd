"""The catalog: corpora, label maps, encoders, views, feature sets and experiments by name."""
