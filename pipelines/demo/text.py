"""The demo's sentences: drawn from `sentences.yaml`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

PLAIN_SHARE = 0.3
"""Share of sentences whose words give nothing away, under every emotion."""


@cache
def _sentences() -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_name("sentences.yaml").read_text(encoding="utf-8"))


def sentence(corpus: str, emotion: str, generator: np.random.Generator) -> str:
    """Draw a sentence of a corpus for an emotion."""
    topics = _sentences()["topics"][corpus]
    topic = topics[int(generator.integers(len(topics)))]
    frames = _sentences()["plain"] if generator.random() < PLAIN_SHARE else _sentences()["emotional"][emotion]
    text = frames[int(generator.integers(len(frames)))].replace("{}", topic)
    return text[0].upper() + text[1:]
