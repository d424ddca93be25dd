"""The baseline of every run: logistic regression on the same rows and features, stored as a run of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from merloco.features.runs import CORPORA, read_config, run_path
from merloco.pipelines.catalog.entries import Training

REFERENCE = "reference"
"""Experiment and protocol of the baselines: one that two experiments have in common is fitted once."""


def reference_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The baseline of a run: one seed, features standardized, the run's own loss, none of its other settings."""
    loss = config.get("training", {}).get("loss", "balanced")
    settings = Training(fusion="logistic", standardize=True, loss=loss)
    about = {"experiment": REFERENCE, "protocol": REFERENCE, "seed": 0, "training": settings.model_dump()}
    about |= {key: sorted(config[key]) for key in CORPORA if key in config}
    return {key: value for key, value in config.items() if key != "fusion_version"} | about


def reference_results(root: Path, config: Mapping[str, Any]) -> dict[str, dict[str, Any]] | None:
    """Tested corpus -> what the baseline of a run of this config came to; None where there is none."""
    folder = run_path(root, reference_config(config))
    if not (folder / "config.json").is_file():
        return None
    return {row["corpus"]: row for row in read_config(folder)["environment"]["results"]}
