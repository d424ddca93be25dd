"""Colours and font of a report: of its figures, and of its style sheet (style.css.j2)."""

from __future__ import annotations

INK = "#1b1f24"
QUIET = "#5c6670"
LINE = "#d9dee3"
EMOTION_COLOURS = ("#8a929b", "#e69f00", "#0072b2", "#56b4e9", "#7b4fa3", "#009e73", "#d55e00")
"""One per class, in the order of the catalog: told apart also by colour-blind readers (after Okabe & Ito)."""
SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b4fa3", "#6b7280")
SHADES = ((0.0, "#f6f9fc"), (1.0, "#6fa8dc"))
"""Of heat maps, from 0 to 100 %: light enough for dark numbers everywhere, on paper too."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
