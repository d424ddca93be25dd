"""Marks of samples by the catalog's `media_rules`: clips that are known to be bad, nearly empty or far too long."""

from __future__ import annotations

from dataclasses import replace

from merloco.pipelines.catalog.entries import MediaRules
from merloco.pipelines.samples.schema import Sample


def with_media_rules(sample: Sample, rules: MediaRules) -> Sample:
    """A sample with the marks that the rules give it; media of one that is known to be bad are not read."""
    marks, length = list(sample.marks), sample.duration
    known_bad = sample.sample_id in rules.known_bad
    if known_bad:
        marks.append("known_bad")
    if sample.sample_id in rules.near_empty or (length and rules.min_seconds and length < rules.min_seconds):
        marks.append("near_empty")
    if sample.sample_id in rules.over_long or (length and rules.max_seconds and length > rules.max_seconds):
        marks.append("over_long")
    if known_bad:
        sample = replace(sample, video_status="known_bad", audio_status="known_bad")
    return replace(sample, marks=tuple(marks))
