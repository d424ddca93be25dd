"""Face detection and the crops made from it."""
