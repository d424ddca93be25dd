"""Result tables as people read them: mean and STD over seeds, coverage, majority and chance rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from flows.console import Format, print_rows, show
from flows.retrain import Outcome

SCORES = {"UAR": "uar", "macro F1": "macro_f1", "weighted F1": "weighted_f1", "accuracy": "accuracy"}


def result_rows(outcomes: Sequence[Outcome], show_leaks: bool = False) -> list[dict[str, Any]]:
    """One row per tested corpus: scores in percent over the seeds, and what always saying one class would give.

    A corpus that an encoder has seen gets `-` for its scores unless `show_leaks`; it is no part of the average row.
    """
    groups: dict[tuple[str, ...], list[tuple[Outcome, dict[str, Any]]]] = {}
    for outcome in outcomes:
        for result in outcome.results:
            groups.setdefault((*outcome.fold.train, result["corpus"]), []).append((outcome, result))
    rows = []
    averages: dict[str, list[float]] = {title: [] for title in SCORES}
    for members in groups.values():
        outcome, first = members[0]
        row: dict[str, Any] = {
            "tested on": first["corpus"],
            "trained on": ", ".join(outcome.fold.train),
            "n": first["n"],
            **{m: f"{share:.0%}" for m, share in first["coverage"].items()},
        }
        hidden = first["corpus"] in outcome.leaks
        for title, key in SCORES.items():
            row[title] = "-" if hidden and not show_leaks else _mean_std([result[key] for _, result in members])
            if not hidden:
                averages[title].append(float(np.nanmean([result[key] for _, result in members])))
        scored = [name for name, count in first["support"].items() if count]
        row["majority UAR"] = f"{100 * first['majority']['uar']:.1f}"
        row["majority wF1"] = f"{100 * first['majority']['weighted_f1']:.1f}"
        row["classes"] = len(scored)
        rows.append(row)
    if len(averages["UAR"]) > 1:
        means = {title: f"{100 * float(np.mean(values)):.1f}" for title, values in averages.items()}
        rows.append({**dict.fromkeys(rows[0], ""), "tested on": "average", **means})
    return rows


def _mean_std(values: Sequence[float]) -> str:
    defined = 100 * np.array([value for value in values if value == value])
    if not len(defined):
        return "-"
    return f"{defined.mean():.1f} ± {defined.std():.1f}" if len(values) > 1 else f"{defined.mean():.1f}"


def print_results(outcomes: Sequence[Outcome], title: str, output: Format, show_leaks: bool = False) -> None:
    """Print the table, the recalls per class, and what the columns mean."""
    rows = result_rows(outcomes, show_leaks)
    if output != "table":
        show(pa.Table.from_pylist(_plain_rows(outcomes)), output)
        return
    print_rows(rows, list(rows[0]), title)
    print()
    leaks = sorted({corpus for outcome in outcomes for corpus in outcome.leaks})
    recalls = _recall_rows([o for o in outcomes if show_leaks or not o.leaks])
    print_rows(
        recalls, list(dict.fromkeys(k for row in recalls for k in row)), "Recall per class, % (-: not annotated)"
    )
    absent = {
        result["corpus"]: [name for name, count in result["support"].items() if not count]
        for outcome in outcomes
        for result in outcome.results
    }
    for corpus, names in absent.items():
        if names:
            print(f"{corpus}: no test row of {', '.join(names)}; left out of its UAR")
    for corpus in leaks:
        shown = "shown, not averaged" if show_leaks else "-; --show-leaks shows it"
        print(f"{corpus}: leak, an encoder of this feature set was trained on it ({shown})")
    seeds = sorted({outcome.seed for outcome in outcomes})
    reused = sum(outcome.reused for outcome in outcomes)
    averaged = f", mean ± STD over {len(seeds)} seeds" if len(seeds) > 1 else ""
    print(f"\nScores in %{averaged}, on the classes that the tested corpus annotates.")
    print("audio, video, text: share of the n test rows that have it.")
    print("majority: always the most frequent training class; its UAR is chance level.")
    print(
        f"{len(outcomes)} runs" + (f", {reused} of them read from the store (--force trains again)." if reused else ".")
    )


def _recall_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for outcome in outcomes:
        for result in outcome.results:
            groups.setdefault(result["corpus"], []).append(result)
    rows = []
    for corpus, results in groups.items():
        row: dict[str, Any] = {"tested on": corpus}
        for name in results[0]["recall"]:
            row[name] = _mean_std([result["recall"][name] for result in results]).split(" ")[0]
        rows.append(row)
    return rows


def _plain_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row per run and tested corpus, unrounded, for machines."""
    return [
        {
            "run": outcome.path.name,
            "train": ",".join(outcome.fold.train),
            "corpus": result["corpus"],
            "seed": outcome.seed,
            "leak": result["corpus"] in outcome.leaks,
            "n": result["n"],
            **{key: result[key] for key in SCORES.values()},
            **{f"majority_{key}": value for key, value in result["majority"].items()},
            **{f"coverage_{m}": share for m, share in result["coverage"].items()},
        }
        for outcome in outcomes
        for result in outcome.results
    ]
