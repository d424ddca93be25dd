"""Fine-tuning of encoders."""
