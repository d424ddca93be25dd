"""Corpus statistics, label maps and sample findings as people read them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import pyarrow as pa

from merloco.flows.cli.console import Key, print_records, print_rows
from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.checks.findings import SampleFinding
from merloco.pipelines.samples.label_counts import UNKNOWN, LabelCount
from merloco.pipelines.samples.schema import SPLITS
from merloco.pipelines.statistics.counts import OURS, PAPER, Comparison, as_printed, notes
from merloco.pipelines.statistics.published import NAMES, Figures

WIDTH = 118
"""Columns of running text below a table."""
MAX_FIGURES = 4
"""Names of figures that a line can take."""


def print_stats(comparisons: Sequence[Comparison]) -> None:
    """Print Table 1: our row above the published one, then what differs and why."""
    rows: list[dict[Key, object]] = []
    for item in comparisons:
        rows.append({"corpus": item.stats.corpus, **_printed(OURS, item.stats.figures), "map": item.stats.label_map})
        if item.published:
            rows.append({"corpus": item.stats.corpus, **_printed(PAPER, item.published.figures)})
    print_records(rows, "Corpus statistics (samples with a target under the active map; paper: Table 1)")
    for item in comparisons:
        _print_differences(item)


def _printed(source: str, figures: Figures) -> dict[Key, object]:
    text = {name: as_printed(name, value) for name, value in asdict(figures).items()}
    return {
        "row": source,
        "hours (h:mm)": text["hours"],
        "min / max / mean (s)": f"{text['min_seconds']} / {text['max_seconds']} / {text['mean_seconds']}",
        "train": figures.train,
        "val": figures.val,
        "test": figures.test,
        "classes": figures.classes,
        "imbalance mean / STD": f"{text['imbalance_mean']} / {text['imbalance_std']}",
    }


def _print_differences(item: Comparison) -> None:
    print(f"\n{item.stats.corpus}")
    if item.published is None:
        _paragraph("  ", "the paper has no row for this corpus")
    elif not item.differs:
        _paragraph("  ", "every figure equals the published one")
    for reason in item.reasons:
        all_differ = len(reason.figures) > MAX_FIGURES and reason.figures == item.differs
        figures = "all that differ" if all_differ else ", ".join(NAMES[name] for name in reason.figures)
        _paragraph("  differs  ", f"{figures}: {reason.text}")
    for note in notes(item.stats):
        _paragraph("  note     ", note)


def _paragraph(lead: str, text: str) -> None:
    indent = " " * len(lead)
    print(textwrap.fill(text, WIDTH, initial_indent=lead, subsequent_indent=indent, break_on_hyphens=False))


def label_table(rows: Sequence[LabelCount]) -> pa.Table:
    """Label counts as a table: native, shared, counted, one column per split, total."""
    texts = [(name, pa.string()) for name in ("native", "shared", "counted")]
    schema = pa.schema([*texts, *((split, pa.int64()) for split in SPLITS), ("total", pa.int64())])
    return pa.Table.from_pylist([{**asdict(row), **row.per_split, "total": row.total} for row in rows], schema=schema)


def print_label_map(
    corpus: str,
    entry: CorpusEntry,
    map_name: str,
    samples: int,
    rows: Sequence[LabelCount],
    following: Callable[..., str],
) -> None:
    """Print native -> shared with samples per split; splits without samples are left out.

    Args:
        corpus: Name.
        entry: Its catalog entry.
        map_name: The map that is shown.
        samples: How many the corpus has.
        rows: What is counted.
        following: Makes the next command of its words (`merloco.flows.cli.options.next_command`).
    """
    label_map = entry.maps[map_name]
    state = "the active map" if map_name == entry.map else f"not active; the active map is {entry.map!r}"
    print(f"{corpus}, map {map_name!r} ({state}): {label_map.about or 'no description'}")
    print(f"{samples:,} samples; classes: {', '.join(label_map.annotated)}\n")
    table = label_table(rows)
    used = [split for split in SPLITS if any(row.per_split[split] for row in rows)]
    shown = table.select(["native", "shared", "counted", *used, "total"])
    print_rows(shown.column_names, list(zip(*shown.to_pydict().values(), strict=True)))
    if any(row.counted == "present" for row in rows):
        print("\npresent: intensity above the map's limit, several per sample; dominant: the strongest alone.")
    print()
    if any(row.shared == UNKNOWN for row in rows):
        return
    others = [name for name in entry.maps if name != map_name]
    if others:
        print(f"Other maps: {', '.join(others)}. Next: {following('labels', 'show', corpus, '--map', others[0])}")
    print(f"To change the active map, set `map:` of {corpus} in the catalog; features stay as they are.")


def print_findings(by_corpus: Mapping[str, Sequence[SampleFinding]], following: Callable[..., str]) -> None:
    """Print findings by corpus, aligned, with the first ids below each; `following` makes the next command."""
    everything = [finding for findings in by_corpus.values() for finding in findings]
    severities = max((len(finding.severity) for finding in everything), default=0)
    codes = max((len(finding.code) for finding in everything), default=0)
    counts = max((len(f"{finding.count:,}") for finding in everything), default=0)
    for corpus, findings in by_corpus.items():
        print(f"{corpus}: {_counted(findings)}")
        for f in findings:
            lead = f"  {f.severity:<{severities}}  {f.code:<{codes}}  {f.count:>{counts},}  "
            _paragraph(lead, f.message)
            if f.first_ids:
                more = ", ..." if f.count > len(f.first_ids) else ""
                _paragraph(" " * len(lead), ", ".join(f.first_ids) + more)
        print()
    print(f"In all: {_counted(everything)}; the numbers are samples.")
    if everything:
        query = "select corpus, code, count, message from findings order by severity, corpus"
        print(f"Next: {following('sql', query)}")


def _counted(findings: Sequence[SampleFinding]) -> str:
    if not findings:
        return "no findings"
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    return f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
