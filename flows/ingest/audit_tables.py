"""The audit of an ingest as people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from merloco.flows.cli.console import print_records, print_rows
from merloco.pipelines.samples.audit import Audit
from merloco.pipelines.samples.schema import MODALITIES, SPLITS

MAX_ERRORS = 5
SUMS = "rows found = left out + samples; samples = dropped + usable"


def print_audits(audits: Sequence[Audit]) -> None:
    """Print counts that add up, classes per split, and why rows are out."""
    if not audits:
        return
    print_records(audit_rows(audits), f"Audit ({SUMS})")
    _print_classes(audits)
    for audit in audits:
        _print_reasons(audit)


def audit_rows(audits: Sequence[Audit]) -> list[dict[str, object]]:
    """One row per corpus: counts that add up (see `SUMS`)."""
    titles = {"found": "rows found", "left_out": "left out"}
    return [
        {
            "corpus": audit.corpus,
            **{titles.get(name, name): count for name, count in _totals(audit).items()},
            "label map": audit.label_map,
        }
        for audit in audits
    ]


def _totals(audit: Audit) -> dict[str, int]:
    return {
        "found": audit.found,
        "left_out": sum(audit.left_out.values()),
        "samples": audit.samples,
        "labelled": audit.labelled,
        "dropped": sum(audit.dropped.values()),
        "usable": audit.usable,
    }


def _print_classes(audits: Sequence[Audit]) -> None:
    classes = list(dict.fromkeys(name for a in audits for split in a.classes.values() for name in split))
    rows = [
        [audit.corpus, split, *map(audit.classes[split].get, classes), sum(audit.classes[split].values())]
        for audit in audits
        for split in SPLITS
        if split in audit.classes
    ]
    print()
    print_rows(["corpus", "split", *classes, "total"], rows, "Usable samples per split and class (-: not annotated)")


def _print_reasons(audit: Audit) -> None:
    print(f"\n{audit.corpus} ({audit.root})")
    if audit.left_out:
        print(f"  left out  {_counted(audit.left_out)}")
        _print_errors(audit, audit.left_out)
    if audit.damaged:
        print(f"  damaged   {_counted(audit.damaged)} (a text, vote, time, label or media lost; their rows are in)")
        _print_errors(audit, audit.damaged)
    if audit.dropped:
        print(f"  dropped   {_counted(audit.dropped)}")
    print("  media     " + "; ".join(f"{m}: {_counted(audit.media[m])}" for m in MODALITIES))
    if audit.marks:
        print(f"  marks     {_counted(audit.marks)}")
    if audit.findings:
        print(f"  findings  {'; '.join(finding_sentences(audit))}")
    if audit.total:
        print(f"  total     {audit.total}")
    for note in audit.notes:
        print(f"  note      {note}")


def finding_sentences(audit: Audit) -> list[str]:
    """Columns without information, a sentence per code: `all_null: start, end`, `one_value: label ('neutral')`."""
    columns: dict[str, list[str]] = {}
    for finding in audit.findings:
        value = "" if finding["value"] is None else f" ({finding['value'][:40]!r})"
        columns.setdefault(finding["code"], []).append(finding["column"] + value)
    return [f"{code}: {', '.join(names)}" for code, names in columns.items()]


def _print_errors(audit: Audit, codes: Mapping[str, int]) -> None:
    """Where each kind of line was left out, the first ones; a line number of 0 means the file as a whole."""
    errors = [error for error in audit.errors if error["code"] in codes]
    for error in errors[:MAX_ERRORS]:
        line = f":{error['line']}" if error["line"] else ""
        print(f"            {error['file']}{line}: {error['message']}")
    if len(errors) > MAX_ERRORS:
        print(f"            ... and {len(errors) - MAX_ERRORS} more in samples/{audit.corpus}.audit.json")


def audit_table(audits: Sequence[Audit]) -> pa.Table:
    """Every count of some audits as a table: corpus, what is counted, split, name, n."""
    rows: list[tuple[str, str, str | None, str | None, int]] = []
    for audit in audits:
        rows += [(audit.corpus, what, None, None, n) for what, n in _totals(audit).items()]
        named = {"left_out": audit.left_out, "damaged": audit.damaged, "dropped": audit.dropped, "mark": audit.marks}
        rows += [(audit.corpus, what, None, name, n) for what, counts in named.items() for name, n in counts.items()]
        rows += [(audit.corpus, f["code"], None, f["column"], f["samples"]) for f in audit.findings]
        for modality, statuses in audit.media.items():
            rows += [(audit.corpus, modality, None, status, n) for status, n in statuses.items()]
        for split, classes in audit.classes.items():
            rows += [(audit.corpus, "usable", split, name, n) for name, n in classes.items()]
    names = ("corpus", "what", "split", "name", "n")
    schema = pa.schema([*((name, pa.string()) for name in names[:-1]), ("n", pa.int64())])
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=schema)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
