"""How many samples each native label has per split, and what the label map makes of it (`merloco labels show`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from merloco.pipelines.catalog.entries import DROP, LabelMap
from merloco.pipelines.errors import DataError, suggest
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.schema import SPLITS

UNKNOWN = "(unknown)"
"""Shared name of a native label that the map lacks."""
UNLABELLED = "(no label)"
UNDECIDED = "xxx"


@dataclass(frozen=True, slots=True)
class LabelCount:
    """One native label under a map."""

    native: str
    shared: str
    """Class name, `drop`, or `(unknown)`."""
    counted: str
    """What is counted: `label`, `present` and `dominant` (intensities), or a `rule` of the map."""
    per_split: dict[str, int]

    @property
    def total(self) -> int:
        """Samples of all splits."""
        return sum(self.per_split.values())


def unknown_labels(samples: pa.Table, label_map: LabelMap) -> dict[str, list[str]]:
    """Native names that occur in a samples table but not in a map -> ids of the samples that carry them."""
    unknown: dict[str, list[str]] = {}
    columns = (samples[name].to_pylist() for name in ("sample_id", "label", "intensities"))
    for sample_id, label, intensities in zip(*columns, strict=True):
        names = [name for name, _ in intensities] if intensities is not None else [] if label is None else [label]
        for name in names:
            if name not in label_map.labels:
                unknown.setdefault(name, []).append(sample_id)
    return dict(sorted(unknown.items()))


def require_known_labels(
    samples: pa.Table, corpus: str, label_map: LabelMap, name: str, places: Mapping[str, tuple[str, int]]
) -> None:
    """Demand that a map knows every label of a samples table.

    Args:
        samples: The samples table of one corpus.
        corpus: Its name, for messages.
        label_map: The map.
        name: The map's name, for messages.
        places: Sample id -> file and line of its row, where that is known.

    Raises:
        DataError: It does not; the sentence says where the first unknown label stands and lists the known ones.
    """
    unknown = unknown_labels(samples, label_map)
    if not unknown:
        return
    label, ids = max(unknown.items(), key=lambda item: len(item[1]))
    first = min(ids, key=lambda sample_id: (places.get(sample_id, ("", 0)), sample_id))
    place = "{}:{}".format(*places[first]) if first in places else f"sample {first!r}"
    others = "".join(f", {other!r} too" for other in unknown if other != label)
    raise DataError(
        f"corpus {corpus!r}, {place}: unknown label {label!r} (in {len(ids)} rows{others}): "
        f"{suggest(label, label_map.labels)}; add it to the label map {name!r} in the catalog"
    )


def count_labels(samples: pa.Table, corpus: str, label_map: LabelMap) -> list[LabelCount]:
    """Count native labels per split.

    Args:
        samples: The samples table of one corpus.
        corpus: Its name, for messages.
        label_map: The map; labels that it lacks are counted as unknown, labels that do not occur as zero.

    Returns:
        Single labels first (map order, then the unknown ones and the unlabelled samples), then intensities:
        presence and dominance per emotion, ties and rows without any emotion.
    """
    has_intensities = samples["intensities"].is_valid()
    single = samples.filter(pa.array([not value for value in has_intensities.to_pylist()], pa.bool_()))
    multi = samples.filter(has_intensities)
    rows = _single(single, corpus, label_map) if single.num_rows or not multi.num_rows else []
    return rows + (_multi(multi, corpus, label_map) if multi.num_rows else [])


def _per_split(counts: Counter[tuple[str, str]], key: str) -> dict[str, int]:
    return {split: counts[key, split] for split in SPLITS}


def _single(samples: pa.Table, corpus: str, label_map: LabelMap) -> list[LabelCount]:
    unknown = unknown_labels(samples, label_map)
    keys = [UNLABELLED if label is None else label for label in samples["label"].to_pylist()]
    counts = Counter(zip(keys, samples["split"].to_pylist(), strict=True))
    promoted = _promoted(samples, corpus, label_map)
    rows = []
    for native, shared in label_map.labels.items():
        rows.append(LabelCount(native, shared, "label", _per_split(counts - promoted, native)))
        if native == UNDECIDED and label_map.undecided:
            per_split = _per_split(promoted, native)
            rows.append(LabelCount(native, label_map.labels["hap"], f"rule {label_map.undecided}", per_split))
    rows += [LabelCount(native, UNKNOWN, "label", _per_split(counts, native)) for native in unknown]
    if UNLABELLED in keys:
        rows.append(LabelCount(UNLABELLED, DROP, "label", _per_split(counts, UNLABELLED)))
    return rows


def _promoted(samples: pa.Table, corpus: str, label_map: LabelMap) -> Counter[tuple[str, str]]:
    """Undecided samples to which the map's rule gives a class."""
    undecided = samples.filter(pa.array([label == UNDECIDED for label in samples["label"].to_pylist()], pa.bool_()))
    if label_map.undecided is None or UNDECIDED not in label_map.labels:
        return Counter()
    labels = apply_map(undecided, corpus, label_map).to_pylist()
    return Counter((UNDECIDED, row["split"]) for row in labels if row["emotion"] is not None)


def _multi(samples: pa.Table, corpus: str, label_map: LabelMap) -> list[LabelCount]:
    splits = samples["split"].to_pylist()
    presence = label_map.multi.presence if label_map.multi else 0.0
    present = Counter(
        (native, split)
        for split, intensities in zip(splits, samples["intensities"].to_pylist(), strict=True)
        for native, value in intensities
        if value > presence
    )
    natives = {**label_map.labels, **dict.fromkeys(unknown_labels(samples, label_map), UNKNOWN)}
    rows = [LabelCount(native, shared, "present", _per_split(present, native)) for native, shared in natives.items()]
    if UNKNOWN in natives.values() or label_map.multi is None:
        return rows
    # With ties and empty rows dropped, the reasons tell them apart from a dominant emotion.
    strict = label_map.multi.model_copy(update={"ties": "drop", "all_zero": "drop"})
    labels = apply_map(samples, corpus, label_map.model_copy(update={"multi": strict})).to_pylist()
    dominant = Counter((row["emotion"] or row["reason"], row["split"]) for row in labels)
    by_class: dict[str, list[str]] = {}
    for native, shared in label_map.labels.items():
        if shared != DROP:
            by_class.setdefault(shared, []).append(native)
    for shared, names in by_class.items():
        rows.append(LabelCount(" or ".join(names), shared, "dominant", _per_split(dominant, shared)))
    first = "first in class order" if label_map.multi.ties == "first" else DROP
    rows.append(LabelCount("(tie)", first, "strongest", _per_split(dominant, "tie")))
    rows.append(LabelCount("(all zero)", label_map.multi.all_zero, "none", _per_split(dominant, "all_zero")))
    return rows
