"""Which runs belong together: those that differ in their seed only, named by how they differ from the others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from merloco.pipelines.files.hashing import canonical_json, sha256_text

NOT_NAMED = re.compile(
    r"(seed|experiment|protocol|train|test|also|shards|version)$|(views|vectors|rows|trained_on|samples|label_maps)\."
)
"""Parts of a config that are shown elsewhere, or only as a hash."""


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `a.b` -> text; lists are joined by `+`."""
    settings: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            settings.update(flatten(value, f"{prefix}{key}."))
        else:
            settings[f"{prefix}{key}"] = " + ".join(map(str, value)) if isinstance(value, list) else str(value)
    return settings


def group_runs(
    configs: Mapping[str, Mapping[str, Any]], tested: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], tuple[str, ...]]:
    """(condition, corpus) -> runs that differ in their seed only; a condition's name says how it differs from others.

    Runs of equal settings on other data (a re-extraction, a new release) are told apart by a hash behind the name.
    """
    settings = {run: flatten(config) for run, config in configs.items()}
    names = _differing_settings(configs, settings)
    groups: dict[tuple[str, str], dict[str, list[str]]] = {}
    for run, corpus in tested:
        parts = [" + ".join(configs[run]["train"])]
        own = {key: value for key in names if (value := settings[run].get(key))}
        parts += [f"{key.removeprefix('training.').removesuffix('.name')} {value}" for key, value in own.items()]
        rest = {key: value for key, value in configs[run].items() if key not in ("seed", "experiment")}
        version = sha256_text(canonical_json(rest))[:6]
        groups.setdefault((", ".join(parts), corpus), {}).setdefault(version, []).append(run)
    return {
        (name if len(versions) == 1 else f"{name} ({version})", corpus): tuple(runs)
        for (name, corpus), versions in groups.items()
        for version, runs in versions.items()
    }


def _differing_settings(
    configs: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Settings that take several values among runs with the same training corpora."""
    by_train: dict[tuple[str, ...], list[set[tuple[str, str]]]] = {}
    for run, config in configs.items():
        by_train.setdefault(tuple(config["train"]), []).append(set(settings[run].items()))
    differing = {key for runs in by_train.values() for key, _ in runs[0].union(*runs) - runs[0].intersection(*runs)}
    return sorted(key for key in differing if not NOT_NAMED.match(key))
