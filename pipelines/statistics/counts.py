"""Corpus statistics: the paper's Table 1 from whatever is ingested, beside the published row, with reasons.

What is counted: samples of train, val and test that have a target under the active label map. For
multi-label corpora that includes rows without any emotion and ties, as in the paper. Class imbalance is the mean and
the population standard deviation of the class counts of the official training part: a validation part that the
catalog carves out of it counts with it, a clip that is known to be bad does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.catalog.loader import Catalog
from merloco.pipelines.checks.media import with_media_lengths
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.table import read_samples
from merloco.pipelines.statistics.published import COUNTS, FIGURES, LENGTHS, PUBLISHED, Figures, Published

KNOWN_BAD = "known_bad"
OURS, PAPER = "merloco", "paper"
SAME_RELEASE = (0.5, 1.5)
"""Outside these ratios of sample counts two corpora are not the same release, and no figure is worth explaining."""


@dataclass(frozen=True, slots=True)
class CorpusStats:
    """The row of one ingested corpus and what stands behind its counts."""

    corpus: str
    label_map: str
    classes: tuple[str, ...]
    figures: Figures
    counted: int
    """Samples with a target in train, val and test."""
    dropped: int
    """Samples without a target under the active map."""
    outside: int
    """Samples with a target but in none of the three splits."""
    without_length: int
    """Counted samples whose length neither annotation nor media gives."""
    imbalance_rows: int
    """Samples over which the class imbalance is taken."""
    carved: bool
    """Validation is carved out of the official training part."""
    known_bad: int
    """Training samples that the imbalance leaves out because their clip is known to be bad."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Figures that differ from the published ones, and why."""

    figures: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """One corpus beside its published row."""

    stats: CorpusStats
    published: Published | None
    differs: tuple[str, ...]
    reasons: tuple[Explanation, ...]
    samples: pa.Table | None = field(default=None, compare=False, repr=False)
    """The samples table behind the figures, with the lengths that the media gave."""


def stats(
    store: Path,
    catalog: Catalog,
    corpora: Iterable[str],
    roots: Mapping[str, Path] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Comparison]:
    """The rows of Table 1 for ingested corpora.

    Args:
        store: Root of the store.
        catalog: Gives the active label maps.
        corpora: Names of ingested corpora, in the order wanted.
        roots: Release folders; where one is given, lengths that no annotation gives come from the media there.
        progress: Called with the number of samples done since the last call, for corpora with a root.

    Raises:
        DataError: A corpus was not ingested, or has a label that its map does not know.
    """
    comparisons = []
    for name in corpora:
        samples = read_samples(store, name)
        if roots and name in roots:
            samples = with_media_lengths(samples, roots[name], progress)
        comparison = compare(corpus_stats(name, catalog.corpus(name), samples))
        comparisons.append(replace(comparison, samples=samples))
    return comparisons


def corpus_stats(name: str, entry: CorpusEntry, samples: pa.Table) -> CorpusStats:
    """Count one samples table under the active map of its catalog entry."""
    label_map = entry.active_map
    labels = apply_map(samples, name, label_map)
    split = np.array(labels["split"].to_pylist(), dtype=object)
    has_target = ~labels["target"].is_null().to_numpy()
    counted = has_target & np.isin(split, COUNTS)
    length = samples["duration"].to_numpy()[counted]
    known = length[~np.isnan(length)]
    marked = np.array([KNOWN_BAD in (marks or ()) for marks in samples["marks"].to_pylist()], dtype=bool)
    training = has_target & np.isin(split, COUNTS[:2] if entry.validation else COUNTS[:1])
    balanced = training & ~marked
    per_class = _class_counts(labels, balanced, label_map.classes, label_map.annotated)
    lengths: dict[str, Any] = dict.fromkeys(LENGTHS)
    if known.size:
        values = (known.sum() / 3600, known.min(), known.max(), known.mean())
        lengths = dict(zip(LENGTHS, map(float, values), strict=True))
    figures = Figures(
        **lengths,
        **{part: int((counted & (split == part)).sum()) for part in COUNTS},
        classes=len(label_map.annotated),
        imbalance_mean=float(per_class.mean()) if balanced.any() else None,
        imbalance_std=float(per_class.std()) if balanced.any() else None,
    )
    return CorpusStats(
        corpus=name,
        label_map=entry.map,
        classes=label_map.annotated,
        figures=figures,
        counted=int(counted.sum()),
        dropped=int((~has_target).sum()),
        outside=int((has_target & ~counted).sum()),
        without_length=length.size - known.size,
        imbalance_rows=int(balanced.sum()),
        carved=entry.validation is not None,
        known_bad=int((training & marked).sum()),
    )


def _class_counts(
    labels: pa.Table, rows: np.ndarray, classes: tuple[str, ...], annotated: tuple[str, ...]
) -> np.ndarray:
    """Positive labels per annotated class, shape (annotated classes,)."""
    target = labels["target"].filter(pa.array(rows)).combine_chunks()
    positives = target.flatten().to_numpy().reshape(-1, len(classes))
    return positives.sum(axis=0, dtype=np.float64)[[classes.index(name) for name in annotated]]


def as_printed(figure: str, value: float | None) -> str:
    """A figure at the precision of the paper: hours as h:mm, seconds and imbalance with one decimal."""
    if value is None:
        return "-"
    if figure == "hours":
        minutes = round(value * 60)
        return f"{minutes // 60}:{minutes % 60:02}"
    return f"{value:d}" if isinstance(value, int) else f"{value:.1f}"


def compare(ours: CorpusStats) -> Comparison:
    """Put a row beside the published one: a figure differs if it does at the paper's precision."""
    published = PUBLISHED.get(ours.corpus)
    if published is None:
        return Comparison(ours, None, (), ())
    mine, theirs = asdict(ours.figures), asdict(published.figures)
    differs = tuple(name for name in FIGURES if as_printed(name, mine[name]) != as_printed(name, theirs[name]))
    return Comparison(ours, published, differs, tuple(_reasons(ours, published, differs)))


def _reasons(ours: CorpusStats, published: Published, differs: tuple[str, ...]) -> list[Explanation]:
    reasons: list[Explanation] = []

    def add(figures: tuple[str, ...], text: str) -> None:
        concerned = tuple(name for name in differs if name in figures)
        if concerned:
            reasons.append(Explanation(concerned, text))

    total = sum(n or 0 for n in (published.figures.train, published.figures.val, published.figures.test))
    other_release = not SAME_RELEASE[0] <= ours.counted / total <= SAME_RELEASE[1]
    if other_release:
        add(FIGURES, f"{ours.counted} samples against {total}: a miniature, a part or another release of the corpus")
    if set(ours.classes) != set(published.classes):
        text = (
            f"map {ours.label_map!r} has the classes {', '.join(ours.classes)}; the paper's are "
            f"{', '.join(published.classes)}: to compare, set `map: {published.comparable_map}` in the catalog"
        )
        add(("classes",) if other_release else FIGURES, text)
    elif not other_release:
        for reason in published.reasons:
            if reason.maps is None or ours.label_map in reason.maps:
                add(reason.figures, reason.text)
    if ours.figures.hours is None:
        add(LENGTHS, "no annotation gives lengths: add --media to read them from the clips")
    explained = {name for reason in reasons for name in reason.figures}
    text = f"not known; `merloco labels show {ours.corpus}` and the ingest's audit count what is dropped or left out"
    add(tuple(name for name in differs if name not in explained), text)
    return reasons


def notes(ours: CorpusStats) -> list[str]:
    """Sentences about what a row counts and what it does not."""
    sentences = []
    if ours.dropped:
        sentences.append(f"not counted, for want of a target under map {ours.label_map!r}: {ours.dropped}")
    if ours.outside:
        sentences.append(f"not counted, for want of a split: {ours.outside}")
    if ours.without_length and ours.figures.hours is not None:
        sentences.append(f"without an annotated length (--media reads it from the clips): {ours.without_length}")
    if ours.carved:
        sentences.append(
            f"imbalance is over {ours.imbalance_rows} samples: train and val together, the official training part"
        )
    if ours.known_bad:
        sentences.append(f"known-bad training clips, as in the paper not in the imbalance: {ours.known_bad}")
    return sentences


STATS_SCHEMA = pa.schema(
    [
        ("corpus", pa.string()),
        ("source", pa.string()),
        ("label_map", pa.string()),
        *((name, pa.int64() if name in (*COUNTS, "classes") else pa.float64()) for name in FIGURES),
        ("imbalance_rows", pa.int64()),
        ("differs", pa.list_(pa.string())),
        ("reasons", pa.list_(pa.string())),
    ]
)


def stats_table(comparisons: Iterable[Comparison]) -> pa.Table:
    """Rows as a table at full precision: per corpus one of source `merloco`, and one of source `paper` if published."""
    rows = []
    for item in comparisons:
        ours = item.stats
        row = {"corpus": ours.corpus, "source": OURS, "label_map": ours.label_map, **asdict(ours.figures)}
        reasons = [f"{', '.join(reason.figures)}: {reason.text}" for reason in item.reasons]
        rows.append({**row, "imbalance_rows": ours.imbalance_rows, "differs": list(item.differs), "reasons": reasons})
        if item.published:
            rows.append({"corpus": ours.corpus, "source": PAPER, **asdict(item.published.figures)})
    return pa.Table.from_pylist(rows, schema=STATS_SCHEMA)
