"""What a search came to: every setting that was tried by its validation score, test scores of the chosen one only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from merloco.flows.cli.console import Key
from merloco.flows.experiments.plan import RunSummary
from merloco.flows.results.notes import result_notes
from merloco.flows.results.scores import tested_scores
from merloco.flows.results.tables import ResultTable
from merloco.flows.results.text import mean_and_std
from merloco.models.metrics.statistics import mean_std
from merloco.models.protocols import Cell


def ranked_cells(outcomes: Sequence[RunSummary]) -> dict[Cell, list[RunSummary]]:
    """Cell -> its runs, the cell with the best mean validation score first; equals stay in the order of the plan."""
    cells: dict[Cell, list[RunSummary]] = {}
    for outcome in outcomes:
        cells.setdefault(outcome.cell, []).append(outcome)
    return dict(sorted(cells.items(), key=lambda item: _validation(item[1])[0], reverse=True))


def _validation(runs: Sequence[RunSummary]) -> tuple[float, float]:
    return mean_std([run.validation for run in runs])


def chosen_runs(outcomes: Sequence[RunSummary]) -> list[RunSummary]:
    """The runs of the settings that are best on validation; none of none."""
    return next(iter(ranked_cells(outcomes).values()), [])


def search_tables(outcomes: Sequence[RunSummary], show_leaks: bool) -> list[ResultTable]:
    """Every setting that was tried, the best on validation first: that one is chosen and tested."""
    chosen = chosen_runs(outcomes)
    rows: list[dict[Key, Any]] = []
    for cell, runs in ranked_cells(outcomes).items():
        row: dict[Key, Any] = {"features": cell.feature_set}
        row |= {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in cell.overrides}
        mean, std = _validation(runs)
        row["validation UAR"] = mean_and_std(100 * mean, 100 * std)
        row["chosen"] = "yes" if runs == chosen else ""
        if runs == chosen:
            row |= {("corpus", score.corpus): score.text(show_leaks=show_leaks) for score in tested_scores(runs)}
        rows.append(row)
    about = (
        "UAR, %. Sorted by the validation score, which chose. Columns of corpora: test scores, of the chosen settings "
        "only; who sees the others' may choose on the test part."
    )
    title = f"Search over training settings: {len(rows)} tried in {len(outcomes)} runs"
    return [ResultTable(title, rows, [about, *result_notes(chosen, show_leaks)])]


def search_table(outcomes: Sequence[RunSummary]) -> pa.Table:
    """`search_tables` for machines: scores as shares, `runs` by name, `uar_*` of the chosen settings only."""
    chosen = chosen_runs(outcomes)
    rows: list[dict[str, Any]] = []
    for cell, runs in ranked_cells(outcomes).items():
        mean, std = _validation(runs)
        row = {"feature_set": cell.feature_set, **dict(cell.overrides), "validation": mean, "validation_std": std}
        row |= {"seeds": len(runs), "chosen": runs == chosen, "runs": [run.path.name for run in runs]}
        if runs == chosen:
            tested = tested_scores(runs)
            row |= {f"uar_{score.corpus}": None if score.leaked else score.mean() / 100 for score in tested}
        rows.append(row)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return pa.Table.from_pylist([{column: row.get(column) for column in columns} for row in rows])
