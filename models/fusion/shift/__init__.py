"""Methods against corpus shift: training settings that are off by default, each a few lines with its source."""
