"""Native labels -> shared targets by the catalog's maps. Labels stay names; unknown ones raise."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa

from merloco.pipelines.catalog.entries import DROP, LabelMap
from merloco.pipelines.errors import DataError, suggest

SELF_EVALUATED_HAPPINESS = "self_evaluated_happiness"
TIE = 1e-5
"""Intensities nearer than this are equal: they are means of few votes, rounded by float32 files."""


def labels_schema(classes: int) -> pa.Schema:
    """Arrow schema of a labels table over a number of classes."""
    texts = ((name, pa.string()) for name in ("sample_id", "corpus", "split", "emotion"))
    vectors = (("target", pa.list_(pa.float32(), classes)), ("mask", pa.list_(pa.bool_(), classes)))
    return pa.schema([*texts, *vectors, ("reason", pa.string())])


def apply_map(samples: pa.Table, corpus: str, label_map: LabelMap) -> pa.Table:
    """Targets of one corpus under one map.

    Args:
        samples: Rows of the samples table (`merloco.pipelines.samples.schema.ARROW_SCHEMA`), all of `corpus`.
        corpus: Corpus name, for messages.
        label_map: The active map.

    Returns:
        A table of `labels_schema`, one row per sample in the given order: `emotion` is the single label or null,
        `target` the class vector or null where the row has no usable annotation, `mask` the classes that the
        corpus annotates, `reason` why `emotion` is null (`label:<native>`, `unlabelled`, `tie`, `all_zero`).

    Raises:
        DataError: A native label is not in the map; the sentence lists the known ones.
    """
    classes = label_map.classes
    one_hot = {name: [float(other == name) for other in classes] for name in classes}
    mask = [name in set(label_map.annotated) for name in classes]
    results: list[tuple[str | None, list[float] | None, str | None]] = []
    annotations = (samples[name].to_pylist() for name in ("sample_id", "label", "intensities", "native"))
    for sample_id, label, intensities, native in zip(*annotations, strict=True):
        if intensities is not None:
            results.append(_from_intensities(dict(intensities), label_map, sample_id))
        elif label is None:
            results.append((None, None, "unlabelled"))
        elif (emotion := _from_label(label, native, label_map, corpus, sample_id)) is None:
            results.append((None, None, f"label:{label}"))
        else:
            results.append((emotion, one_hot[emotion], None))
    emotions, targets, reasons = ([result[i] for result in results] for i in range(3))
    names = (samples[name].to_pylist() for name in ("sample_id", "corpus", "split"))
    columns = [*names, emotions, targets, [mask] * len(results), reasons]
    return pa.table(columns, schema=labels_schema(len(classes)))


def _from_label(label: str, native: str, label_map: LabelMap, corpus: str, sample_id: str) -> str | None:
    if label not in label_map.labels:
        raise DataError(
            f"corpus {corpus!r}, sample {sample_id!r}: unknown label {label!r}: {suggest(label, label_map.labels)}; "
            f"add it to the label map in the catalog"
        )
    if label == "xxx" and label_map.undecided == SELF_EVALUATED_HAPPINESS and _self_evaluated_happy(json.loads(native)):
        return label_map.labels["hap"]
    name = label_map.labels[label]
    return None if name == DROP else name


def _self_evaluated_happy(native: Mapping[str, object]) -> bool:
    """The rule behind the field's 7433 labels.

    The actor's only self-evaluation is the single label Happiness, and an external evaluator voted exactly that.
    `native["votes"]` maps vote ids (`E1`, `F1`, `M2`, ...) to the list of labels of that vote.
    """
    votes = native.get("votes")
    if not isinstance(votes, Mapping):
        return False
    own = [labels for voter, labels in votes.items() if voter[:1] in "FM"]
    external = [labels for voter, labels in votes.items() if voter[:1] == "E"]
    return bool(own) and all(labels == ["Happiness"] for labels in own) and ["Happiness"] in external


def _from_intensities(
    intensities: dict[str, float], label_map: LabelMap, sample_id: str
) -> tuple[str | None, list[float], str | None]:
    """Dominant emotion and multi-label target; all-zero is tested before the maximum."""
    multi = label_map.multi
    if multi is None:
        raise DataError(f"sample {sample_id!r} has intensities: its label map needs a `multi` section in the catalog")
    values = [0.0] * len(label_map.classes)
    for native, value in intensities.items():
        if native not in label_map.labels:
            raise DataError(f"sample {sample_id!r}: unknown emotion {native!r}: {suggest(native, label_map.labels)}")
        name = label_map.labels[native]
        if name != DROP:
            values[label_map.classes.index(name)] = value
    target = [float(value > multi.presence) for value in values]
    if not any(target):
        if multi.all_zero == DROP:
            return None, target, "all_zero"
        target[label_map.classes.index(multi.all_zero)] = 1.0
        return multi.all_zero, target, None
    strongest = [i for i, value in enumerate(values) if max(values) - value <= TIE]
    if len(strongest) > 1 and multi.ties == DROP:
        return None, target, "tie"
    return label_map.classes[strongest[0]], target, None
