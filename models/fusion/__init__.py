"""The gated-attention fusion and its training."""
