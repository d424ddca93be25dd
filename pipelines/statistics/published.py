"""The published corpus statistics as data: Table 1 of the paper, and why a row of ours can differ from it.

Source: Ryumina et al., Pattern Recognition Letters 190 (2025) 192-200, Table 1. How each figure comes out of a raw
release is worked out in corpora.md: sections 0, 1.5, 2.4, 3.5, 3.6 and 4.4.
"""

from __future__ import annotations

from dataclasses import dataclass

NAMES = {
    "hours": "hours",
    "min_seconds": "min s",
    "max_seconds": "max s",
    "mean_seconds": "mean s",
    "train": "train",
    "val": "val",
    "test": "test",
    "classes": "classes",
    "imbalance_mean": "imbalance mean",
    "imbalance_std": "imbalance STD",
}
"""Figure -> its name for people, in the order of the paper's table."""

FIGURES = tuple(NAMES)

LENGTHS = ("hours", "min_seconds", "max_seconds", "mean_seconds")
COUNTS = ("train", "val", "test")
IMBALANCE = ("imbalance_mean", "imbalance_std")


@dataclass(frozen=True, slots=True)
class Figures:
    """One row of Table 1; null stands for the paper's dash, or for a figure that nothing gives."""

    hours: float | None
    """All splits together."""
    min_seconds: float | None
    max_seconds: float | None
    mean_seconds: float | None
    train: int | None
    """Utterances."""
    val: int | None
    test: int | None
    classes: int
    imbalance_mean: float | None
    """Mean of the class counts of the training part."""
    imbalance_std: float | None
    """Population standard deviation of the same counts."""


@dataclass(frozen=True, slots=True)
class Published:
    """What the paper says about one corpus."""

    figures: Figures
    classes: tuple[str, ...]
    """Names of its classes in the single-corpus models (corpora.md 0)."""
    comparable_map: str
    """The catalog's label map over the same classes."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some figures of a corpus differ from the published ones."""

    figures: tuple[str, ...]
    text: str
    maps: tuple[str, ...] | None = None
    """Label maps under which it holds; null: under every map."""


_SIX = ("neutral", "happy", "sad", "angry", "excited", "frustrated")
_SEVEN = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")

PUBLISHED: dict[str, Published] = {
    "iemocap": Published(
        Figures(9 + 24 / 60, 0.6, 34.1, 4.6, 5229, 581, 1623, 6, 959.7, 344.4), _SIX, comparable_map="six_lineage"
    ),
    "mosei": Published(
        Figures(45 + 51 / 60, 0.2, 108.9, 7.2, 16216, 1835, 4625, 6, 3734.3, 2441.1),
        _SEVEN[1:],
        comparable_map="dominant",
    ),
    "meld": Published(
        Figures(12 + 4 / 60, 0.2, 304.9, 3.2, 9989, 1109, 2610, 7, 1426.9, 1427.0), _SEVEN, comparable_map="seven"
    ),
    "afew": Published(Figures(48 / 60, 0.5, 6.3, 2.5, 773, 383, None, 7, 110.4, 31.1), _SEVEN, comparable_map="seven"),
}

REASONS: dict[str, tuple[Reason, ...]] = {
    "iemocap": (
        Reason(
            COUNTS,
            "the published counts sum to 7433, a label set handed on in the field; the raw consensus labels of the six "
            "classes give 7380 (5758 in Sessions 1-4, 1622 in Session 5): map 'six_lineage' adds the other 53",
            maps=("six",),
        ),
        Reason(
            ("train", "val"),
            "the published 5229 and 581 are an unpublished random draw of 10 % of the utterances of Sessions 1-4; "
            "ours is drawn by the catalog's `validation` section: for the same sizes set {by: utterance, size: 581} "
            "and ingest again",
            maps=("six", "six_lineage"),
        ),
        Reason(
            LENGTHS,
            "the published lengths are those of the 7380 raw labels (9.41 h, map 'six'), not of the 7433 counted "
            "beside them (9.47 h)",
            maps=("six_lineage",),
        ),
        Reason(
            IMBALANCE,
            "the published imbalance is that of the 5758 raw labels of Sessions 1-4 (map 'six'), without the undecided "
            "utterances that 'six_lineage' adds to happy",
            maps=("six_lineage",),
        ),
    ),
    "meld": (
        Reason(
            ("min_seconds",),
            "lengths are end minus start of the episode time codes in the CSV: train dia338_utt3 has 6 ms, 105 others "
            "are shorter than 0.15 s, test dia155_utt3 ends where it starts; no time code explains the published 0.2 s",
        ),
    ),
    "mosei": (
        Reason(
            COUNTS,
            "the published counts are nearest to the 2018 challenge release (its validation and test part, and its "
            "training part less one segment); the standard folds hold 16327, 1871 and 4662 segments",
        ),
        Reason(
            LENGTHS,
            "the published lengths are over those 22676 segments; the 22860 of the standard folds give 48.4 h and "
            "begin at 0.12 s",
        ),
        Reason(
            IMBALANCE,
            "the published mean is 22406 positive labels over six emotions in the training part of that release; ours "
            "counts the emotions above the map's presence limit in the standard fold",
        ),
    ),
    "afew": (
        Reason(
            COUNTS,
            "the published training part is all of Train_AFEW (773), its validation part is Val_AFEW (383), on which "
            "it also reports; here Val_AFEW is the test part, and validation is carved out of Train_AFEW",
        ),
    ),
}
"""Corpus -> reasons that are known for the official release, in the order in which they are printed."""
