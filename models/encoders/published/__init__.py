"""The encoders of the published method."""
