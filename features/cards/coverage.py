"""What a store holds, counted: plan, coverage per view and corpus, seconds per stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from merloco.features.shards.format import OK, STAGES
from merloco.features.store import TO_DO, FeatureStore, PlannedShard
from merloco.features.views import FeatureView
from merloco.pipelines.samples.table import read_samples


def plan_table(planned: Iterable[PlannedShard]) -> list[dict[str, Any]]:
    """One row per view and corpus: shards by state and samples to do."""
    groups: dict[tuple[str, str, str], list[PlannedShard]] = {}
    for p in planned:
        groups.setdefault((p.view.name, p.view.fingerprint, p.shard.corpus), []).append(p)
    rows = []
    for (view, fingerprint, corpus), shards in groups.items():
        states = Counter(p.state for p in shards)
        rows.append(
            {
                "view": view,
                "fingerprint": fingerprint,
                "corpus": corpus,
                "shards": len(shards),
                "done": states["done"] + states["failed"],
                "missing": states["missing"],
                "stale": states["stale"],
                "damaged": states["damaged"],
                "media lost": states["lost"],
                "with failed rows": states["failed"],
                "samples to do": sum(p.shard.samples.num_rows for p in shards if p.state in TO_DO),
            }
        )
    return rows


def coverage_table(store: FeatureStore, views: Iterable[FeatureView], corpora: Sequence[str]) -> list[dict[str, Any]]:
    """One row per view and corpus: samples, vectors there, and the reasons for the rest."""
    rows = []
    totals = {corpus: read_samples(store.root, corpus).num_rows for corpus in corpora}
    for view in views:
        for corpus in corpora:
            statuses = sum((Counter(c.statuses) for c in store.committed(view, [corpus])), Counter[str]())
            remaining = totals[corpus] - sum(statuses.values())
            if remaining > 0:
                statuses["not extracted"] = remaining
            other = ", ".join(f"{s} {n}" for s, n in sorted(statuses.items()) if s != OK)
            rows.append(
                {
                    "view": view.name,
                    "corpus": corpus,
                    "samples": totals[corpus],
                    "ok": statuses[OK],
                    "coverage": f"{statuses[OK] / totals[corpus]:.1%}",
                    "not ok": other or None,
                }
            )
    return rows


def timings_sentence(summary: Mapping[str, Any], planned: int, wall: float) -> str:
    """One sentence about an extraction: shards done, rate, seconds per stage, and the slowest stage."""
    done = summary["shards"]
    if not done:
        return f"Nothing to extract: all {planned} shards are done."
    seconds = {stage: summary["seconds"][stage] for stage in STAGES if stage in summary["seconds"]}
    timings = ", ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items())
    slowest = max((stage for stage in seconds if stage != "wait"), key=seconds.__getitem__)
    rate = summary["rows"] / wall if wall else 0.0
    return (
        f"Extracted {done} of {planned} shards, {summary['rows']} samples in {wall:.1f} s ({rate:.1f} samples/s); "
        f"side by side: {timings}; slowest leg: {slowest}."
    )
