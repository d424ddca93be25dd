"""Encoders of audio, video and text."""
