"""Errors of the model side that a user can mend."""

from __future__ import annotations


class ModelError(Exception):
    """Weights, settings or inputs do not fit a model: one sentence says what, where, and what was expected."""
