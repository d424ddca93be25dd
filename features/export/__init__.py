"""Features for other tools."""
