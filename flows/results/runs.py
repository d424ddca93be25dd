"""What the store remembers of runs: lists of them, one in detail, and how two differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from merloco.features.query.runs import readable_name, trained_at
from merloco.features.runs import CORPORA, read_config, run_folders, run_tags
from merloco.flows.experiments.jobs import leaked_corpora
from merloco.flows.report.conditions import flatten
from merloco.flows.results.text import TITLES
from merloco.pipelines.errors import UsageError, suggest

LISTED_SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("experiment", pa.string()),
        ("protocol", pa.string()),
        ("trained_at", pa.timestamp("s")),
        ("name", pa.string()),
        ("test", pa.list_(pa.string())),
        ("seed", pa.int64()),
        ("validation", pa.float64()),
        ("test_uar", pa.map_(pa.string(), pa.float64())),
        ("tags", pa.list_(pa.string())),
    ]
)
"""Columns of a list of runs; of a tested corpus that an encoder has seen the score is null."""
HASH = 12
"""Characters of a hash that tell two apart."""
_DATA = ("views", "vectors", "rows", "label_maps", "trained_on")
"""Keys of a config that say what was learnt from; the others say how."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something in which two runs differ; None where one has no such thing."""

    part: str
    """`settings`, `views`, `rows`, `labels` or `scores`."""
    name: str
    first: Any
    second: Any


def list_runs(
    store: Path,
    experiment: str | None = None,
    corpus: str | None = None,
    tag: str | None = None,
    since: datetime | None = None,
) -> list[dict[str, Any]]:
    """Rows of `LISTED_SCHEMA`, the newest first.

    Args:
        store: Root of the store.
        experiment: Only runs of this one.
        corpus: Only runs that train or test on it.
        tag: Only runs that have it.
        since: Only runs that were trained then or later, in UTC.

    Raises:
        UsageError: No run of the store has such an experiment, corpus or tag.
    """
    rows = [
        (_listed(folder, record := read_config(folder)), record["config"]["train"]) for folder in run_folders(store)
    ]
    for what, wanted, known in (
        ("experiment", experiment, {row["experiment"] for row, _ in rows}),
        ("corpus", corpus, {name for row, train in rows for name in (*train, *row["test"])}),
        ("tag", tag, {name for row, _ in rows for name in row["tags"]}),
    ):
        if wanted is not None and wanted not in known:
            raise UsageError(f"no run has the {what} {wanted!r}: {suggest(wanted, known)}")
    chosen = [
        row
        for row, train in rows
        if experiment in (None, row["experiment"])
        and (corpus is None or corpus in (*train, *row["test"]))
        and (tag is None or tag in row["tags"])
        and (since is None or row["trained_at"] >= since)
    ]
    return sorted(chosen, key=lambda row: row["trained_at"], reverse=True)


def _listed(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    config, environment = record["config"], record["environment"]
    scores = {row["corpus"]: row.get("uar") for row in environment["results"] if row["corpus"] in config["test"]}
    return {
        "run": record["run"],
        "experiment": config["experiment"],
        "protocol": config["protocol"],
        "trained_at": trained_at(record),
        "name": readable_name(config),
        "test": config["test"],
        "seed": config["seed"],
        "validation": environment.get("validation"),
        "test_uar": list((scores | dict.fromkeys(_leaks(config))).items()),
        "tags": run_tags(folder),
    }


def _leaks(config: Mapping[str, Any]) -> tuple[str, ...]:
    return leaked_corpora(config) if "trained_on" in config else ()


def describe_run(folder: Path) -> list[tuple[str, str, str]]:
    """(part, name, value) of everything that a run is and came to, but for the scores: see `scores_of_run`."""
    record = read_config(folder)
    config, environment = record["config"], record["environment"]
    tested = [name for name in _leaks(config) if name in config["test"]]
    about = {
        "name": readable_name(config),
        "experiment": config["experiment"],
        "protocol": config["protocol"],
        "where": str(folder),
        "tags": ", ".join(run_tags(folder)),
        "trained at": f"{trained_at(record):%Y-%m-%d %H:%M:%S} UTC",
        "same run as": environment.get("adopted_from"),
        "validation": environment.get("validation"),
        "best epoch": environment.get("best_epoch"),
        "epochs": environment.get("epochs"),
        "seconds": environment.get("seconds"),
        "an encoder has seen": ", ".join(tested),
        **{f"version of {tool}": version for tool, version in environment.get("versions", {}).items()},
        "commit": environment.get("git", {}).get("commit"),
    }
    rows = [("run", name, str(value)) for name, value in about.items() if value not in (None, "")]
    how = {key: value for key, value in config.items() if key not in (*_DATA, "experiment", "protocol")}
    rows += [("settings", name, value) for name, value in _settings(how).items() if value]
    rows += [("views", name, value) for name, value in config.get("views", {}).items()]
    rows += [("label maps", name, str(entry.get("map"))) for name, entry in config.get("label_maps", {}).items()]
    return rows + [("rows", name, value[:HASH]) for name, value in config.get("rows", {}).items()]


def scores_of_run(folder: Path) -> list[dict[str, Any]]:
    """A row per tested part: corpus, whether it was trained on, n, scores as shares."""
    record = read_config(folder)
    config = record["config"]
    leaks = _leaks(config)
    return [
        {
            "corpus": row["corpus"],
            "held out": row["corpus"] not in config["train"],
            "leak": row["corpus"] in leaks,
            "n": row["n"],
            **{metric: row[metric] for metric in TITLES if metric in row},
            **{key: (row.get("interval") or {}).get(key) for key in ("low", "high")},
        }
        for row in record["environment"]["results"]
    ]


def differences(first: Path, second: Path) -> list[Difference]:
    """Everything in which two runs differ: settings, views, rows, label maps, scores; nothing of what is equal."""
    records = [read_config(folder) for folder in (first, second)]
    parts = [_parts(record["config"]) | {"scores": _scores(record)} for record in records]
    return [
        Difference(part, name, one.get(name), other.get(name))
        for part in parts[0]
        for one, other in [(parts[0][part], parts[1][part])]
        for name in dict.fromkeys([*one, *other])
        if not _equal(one.get(name), other.get(name))
    ]


def _equal(one: Any, other: Any) -> bool:
    return one == other or (one != one and other != other)  # NaN: undefined in both


def _parts(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Part -> name -> value; the order of corpora decides nothing and is none."""
    how = {key: sorted(value) if key in CORPORA else value for key, value in config.items() if key not in _DATA}
    maps = {corpus: {k: v for k, v in m.items() if k != "about"} for corpus, m in config.get("label_maps", {}).items()}
    vectors = flatten(config.get("vectors", {}))
    return {
        "settings": _settings(how),
        "views": flatten({**config.get("views", {}), "seen by": config.get("trained_on", {})}),
        "rows": {name: value[:HASH] for name, value in flatten(config.get("rows", {})).items()}
        | {f"vectors of {name.replace('.', ', ')}": value[:HASH] for name, value in vectors.items()},
        "labels": flatten(maps),
    }


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    return {name.removeprefix("training."): value for name, value in flatten(config).items()}


def _scores(record: Mapping[str, Any]) -> dict[str, float]:
    environment = record["environment"]
    scores = {
        f"{row['corpus']} {key}": row[key] for row in environment["results"] for key in ("n", *TITLES) if key in row
    }
    validation = environment.get("validation")
    return scores if validation is None else {"validation": validation, **scores}
