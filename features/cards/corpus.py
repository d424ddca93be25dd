"""Data card of a corpus: one Markdown file with plots, from the samples table, the audit and the last check.

Same store and catalog, same bytes: a card holds no date, no folder of this machine and no version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merloco.features.cards.plots import plot_classes, plot_histogram
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.checks.findings import read_findings
from merloco.pipelines.files.atomic import atomic_path
from merloco.pipelines.samples.audit import audit_path, read_audit
from merloco.pipelines.samples.label_counts import count_labels
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.schema import MODALITIES, SPLITS
from merloco.pipelines.samples.table import read_samples
from merloco.pipelines.statistics.counts import Comparison, as_printed, notes
from merloco.pipelines.statistics.published import FIGURES, NAMES

ACCESS = {
    "iemocap": "Distributed as the archive IEMOCAP_full_release.tar.gz.",
    "meld": "The clips are distributed as MELD.Raw.tar.gz; the annotation files are public in the repository "
    "declare-lab/MELD (data/MELD).",
    "mosei": "Distributed as CMU_MOSEI.zip (about 120 GB) and .csd files; the official servers are often down, and "
    "mirrors can hold a part of the tree only.",
    "afew": "Access is by licence from the organisers of the EmotiW challenge; the labels of its own test part are "
    "withheld.",
    "ravdess": "Distributed on Zenodo, without a form.",
    "crema_d": "Distributed in the repository CheyneyComputerScience/CREMA-D, without a form.",
    "savee": "Distributed by the University of Surrey after a registration.",
}
"""How a corpus is had, in one sentence."""
TERMS = "The terms under which you hold your copy apply; the release files that are read here do not state them."


def write_card(store: FeatureStore, comparison: Comparison, folder: Path) -> Path:
    """Write `<corpus>.md` and `<corpus>/{classes,durations,words}.png` into a folder; returns the Markdown file."""
    corpus = comparison.stats.corpus
    entry = store.catalog.corpus(corpus)
    samples = read_samples(store.root, corpus) if comparison.samples is None else comparison.samples
    labels = apply_map(samples, corpus, entry.active_map)
    sections = [
        _head(corpus, entry, samples),
        _statistics(comparison),
        _splits(samples, labels),
        *_classes(corpus, entry, labels, folder),
        _label_map(corpus, entry, samples),
        *_lengths(corpus, samples, folder),
        _modalities(samples),
        _audit(store, corpus),
        _findings(store, corpus),
    ]
    path = folder / f"{corpus}.md"
    with atomic_path(path) as temporary:
        # Labels, speakers and findings are the corpus's words: none may become markup where the card is shown as HTML.
        temporary.write_text("\n\n".join(sections).replace("<", "&lt;") + "\n", encoding="utf-8")
    return path


def _table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    def line(cells: Iterable[Any]) -> str:
        texts = ("-" if cell is None else " ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(texts)} |"

    return "\n".join([line(header), line(["---"] * len(header)), *map(line, rows)])


def _counted(values: Iterable[str]) -> str:
    counts = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {n}" for name, n in counts) or "none"


def _head(corpus: str, entry: CorpusEntry, samples: pa.Table) -> str:
    about = f": {entry.active_map.about}" if entry.active_map.about else ""
    access = f"{ACCESS[corpus]} {TERMS}" if corpus in ACCESS else TERMS
    return (
        f"# Data card: {corpus}\n\n{samples.num_rows} samples. Label map `{entry.map}`{about}.\n\n## Access\n\n{access}"
    )


def _statistics(item: Comparison) -> str:
    ours = asdict(item.stats.figures)
    rows = [["this store", *(as_printed(name, ours[name]) for name in FIGURES)]]
    if item.published:
        theirs = asdict(item.published.figures)
        rows.append(["paper, Table 1", *(as_printed(name, theirs[name]) for name in FIGURES)])
    header = ["", *(NAMES[name] for name in FIGURES)]
    sentences = [f"- {', '.join(NAMES[name] for name in reason.figures)}: {reason.text}." for reason in item.reasons]
    sentences += [f"- {sentence}." for sentence in notes(item.stats)]
    text = f"## Statistics\n\nCounted are samples with a target under the map.\n\n{_table(rows, header)}"
    return text + ("\n\n" + "\n".join(sentences) if sentences else "")


def _used(samples: pa.Table) -> list[str]:
    present = set(samples["split"].to_pylist())
    return [split for split in SPLITS if split in present]


def _part(table: pa.Table, split: str) -> pa.Table:
    return table.filter(pc.equal(table["split"], split))


def _splits(samples: pa.Table, labels: pa.Table) -> str:
    rows = []
    for split in _used(samples):
        part, usable = _part(samples, split), _part(labels, split)
        distinct = [pc.count_distinct(part[name], mode="only_valid").as_py() for name in ("dialogue", "speaker")]
        rows.append([split, part.num_rows, usable.num_rows - usable["emotion"].null_count, *distinct])
    return f"## Splits\n\n{_table(rows, ['split', 'samples', 'with one class', 'dialogues', 'speakers'])}"


def _classes(corpus: str, entry: CorpusEntry, labels: pa.Table, folder: Path) -> list[str]:
    label_map = entry.active_map
    counts: dict[str, dict[str, int]] = {}
    totals: dict[str, int] = {}
    for split in _used(labels):
        targets = _part(labels, split)["target"].drop_null().to_pylist()
        sums = np.array(targets, dtype=np.float64).reshape(-1, len(label_map.classes)).sum(axis=0)
        counts[split] = {name: int(sums[label_map.classes.index(name)]) for name in label_map.annotated}
        totals[split] = len(targets)
    plot_classes(folder / corpus / "classes.png", counts, totals)
    rows = [[split, *counts[split].values(), totals[split]] for split in counts]
    several = " A sample can have several." if label_map.multi else ""
    text = f"## Classes\n\nSamples per class.{several}\n\n{_table(rows, ['split', *label_map.annotated, 'samples'])}"
    return [text, f"![Share of each class per split]({corpus}/classes.png)"]


def _label_map(corpus: str, entry: CorpusEntry, samples: pa.Table) -> str:
    counts = count_labels(samples, corpus, entry.active_map)
    used = _used(samples)
    rows = [[c.native, c.shared, c.counted, *(c.per_split[split] for split in used), c.total] for c in counts]
    return f"## Label map\n\n{_table(rows, ['native', 'shared', 'counted', *used, 'total'])}"


def _lengths(corpus: str, samples: pa.Table, folder: Path) -> list[str]:
    seconds = {split: _part(samples, split)["duration"].drop_null().to_pylist() for split in _used(samples)}
    texts = {split: _part(samples, split)["text"].drop_null().to_pylist() for split in _used(samples)}
    words = {split: [len(text.split()) for text in texts[split]] for split in texts}
    sections = []
    for title, file, label, values in (
        ("Durations", "durations", "duration (s)", seconds),
        ("Text", "words", "text length (words)", words),
    ):
        if not any(values.values()):
            hint = "; `merloco stats --media --cards` reads them from the clips" if file == "durations" else ""
            sections.append(f"## {title}\n\nNot known for any sample{hint}.")
            continue
        plot_histogram(folder / corpus / f"{file}.png", values, label, whole=file == "words")
        rows = [[split, len(v), *_spread(v)] for split, v in values.items() if v]
        unit = label.split("(")[1][:-1]
        header = ["split", "samples", *(f"{name} {unit}" for name in ("min", "median", "mean", "max"))]
        sections.append(f"## {title}\n\n{_table(rows, header)}\n\n![Histogram of {label}]({corpus}/{file}.png)")
    return sections


def _spread(values: Sequence[float]) -> list[str]:
    spread = (min(values), float(np.median(values)), float(np.mean(values)), max(values))
    return [f"{round(number, 1):g}" for number in spread]


def _modalities(samples: pa.Table) -> str:
    rows = [[modality, _counted(samples[f"{modality}_status"].to_pylist())] for modality in MODALITIES]
    rows.append(["text source", _counted(samples["text_source"].to_pylist())])
    rows.append(["marks", _counted(mark for marks in samples["marks"].to_pylist() for mark in marks or ())])
    return f"## Modalities\n\n{_table(rows, ['', 'samples by status'])}"


def _audit(store: FeatureStore, corpus: str) -> str:
    if not audit_path(store.root, corpus).is_file():
        return "## Ingest audit\n\nThe store has none for this corpus."
    audit = read_audit(store.root, corpus)
    out, dropped = sum(audit.left_out.values()), sum(audit.dropped.values())
    rows = [
        ["annotation rows found", audit.found, "left out + samples"],
        ["left out", out, ", ".join(f"{k} {n}" for k, n in audit.left_out.items()) or "-"],
        ["samples", audit.samples, "dropped + usable"],
        ["dropped", dropped, ", ".join(f"{k} {n}" for k, n in audit.dropped.items()) or "-"],
        ["usable", audit.usable, f"one class under map {audit.label_map}"],
    ]
    if audit.damaged:
        kinds = ", ".join(f"{k} {n}" for k, n in audit.damaged.items())
        rows.append(["damaged lines", sum(audit.damaged.values()), f"{kinds}: a text or a vote lost, no row"])
    audit_notes = "\n\n" + "\n".join(f"- {sentence}" for sentence in audit.notes) if audit.notes else ""
    return f"## Ingest audit\n\n{_table(rows, ['', 'rows', 'of which'])}{audit_notes}"


def _findings(store: FeatureStore, corpus: str) -> str:
    findings = read_findings(store.root, corpus)
    if findings is None:
        return f"## Findings\n\nNot checked yet: run `merloco check samples {corpus}`."
    if not findings:
        return "## Findings\n\nThe last check found nothing."
    rows = [[f.severity, f.code, f.count, f.message] for f in findings]
    table = _table(rows, ["severity", "code", "samples", "what"])
    return f"## Findings\n\nOf the last `merloco check samples`.\n\n{table}"
