"""Decoder processes that fail."""

import sys
from pathlib import Path

POISON = (sys.executable, str(Path(__file__).parent / "poison_decoder.py"))
