"""The audit of an ingest as people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flows.console import print_rows
from pipelines.samples import Audit
from pipelines.schema import MODALITIES, SPLITS

SHOWN_ERRORS = 5


def print_audits(audits: Sequence[Audit]) -> None:
    """Print counts that add up, classes per split, and why rows are out."""
    if not audits:
        return
    rows = [
        {
            "corpus": audit.corpus,
            "rows found": audit.found,
            "left out": sum(audit.left_out.values()),
            "samples": audit.samples,
            "labelled": audit.labelled,
            "dropped": sum(audit.dropped.values()),
            "usable": audit.usable,
            "label map": audit.label_map,
        }
        for audit in audits
    ]
    print_rows(rows, list(rows[0]), "Audit (rows found = left out + samples; samples = dropped + usable)")
    _print_classes(audits)
    for audit in audits:
        _print_reasons(audit)


def _print_classes(audits: Sequence[Audit]) -> None:
    classes = list(dict.fromkeys(name for a in audits for split in a.classes.values() for name in split))
    rows: list[dict[str, object]] = []
    for audit in audits:
        for split in (s for s in SPLITS if s in audit.classes):
            counts = audit.classes[split]
            rows.append({"corpus": audit.corpus, "split": split, **counts, "total": sum(counts.values())})
    print()
    print_rows(rows, ["corpus", "split", *classes, "total"], "Usable samples per split and class (-: not annotated)")


def _print_reasons(audit: Audit) -> None:
    print(f"\n{audit.corpus} ({audit.root})")
    if audit.left_out:
        print(f"  left out  {_counted(audit.left_out)}")
        for error in audit.errors[:SHOWN_ERRORS]:
            print(f"            {error['file']}:{error['line']}: {error['message']}")
        if len(audit.errors) > SHOWN_ERRORS:
            print(f"            ... and {len(audit.errors) - SHOWN_ERRORS} more in samples/{audit.corpus}.audit.json")
    if audit.dropped:
        print(f"  dropped   {_counted(audit.dropped)}")
    print("  media     " + "; ".join(f"{m}: {_counted(audit.media[m])}" for m in MODALITIES))
    if audit.marks:
        print(f"  marks     {_counted(audit.marks)}")
    for sentence in audit.notes:
        print(f"  note      {sentence}")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
