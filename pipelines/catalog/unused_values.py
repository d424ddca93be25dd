"""Values of a corpus entry that changed nothing in what its parser found: sentences for the audit of the ingest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.samples.schema import Sample

READ_BY = {
    "validation": ("iemocap", "afew"),
    "reported": ("afew",),
    "media_rules": ("meld", "table"),
}
"""Key -> the parsers of this package that read it; what others read is not known here."""
_PARSERS = ("iemocap", "meld", "mosei", "afew", "table")


def unused_values(entry: CorpusEntry, samples: Sequence[Sample]) -> list[str]:
    """Sentences on keys that the parser does not read, ids of no sample and a map without effect.

    Args:
        entry: The corpus in the catalog.
        samples: Everything that its parser found.
    """
    return list(_sentences(entry, samples))


def _sentences(entry: CorpusEntry, samples: Sequence[Sample]) -> Iterator[str]:
    for key, parsers in READ_BY.items():
        unread = entry.parser in _PARSERS and entry.parser not in parsers
        if unread and getattr(entry, key) != CorpusEntry.model_fields[key].default:
            yield f"catalog: {key} changes nothing, the parser {entry.parser} does not read it"
    ids = {sample.sample_id for sample in samples}
    named = entry.media_rules.named_clips
    unknown = [f"{key} {sample_id}" for key, sample_id in named if sample_id not in ids]
    if unknown:
        yield f"catalog: {len(unknown)} of {len(named)} ids of media_rules are of no sample here (first: {unknown[0]})"
    if entry.active_map.multi and all(sample.intensities is None for sample in samples):
        yield f"catalog: map {entry.map!r} has a `multi` section, but no sample has intensities: it changes nothing"
