"""The shared data model: emotion order, identifiers, and the samples table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import pyarrow as pa

from merloco.pipelines.errors import DataError

EMOTIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")
"""The shared class order. Labels stay names until the last line before the loss."""

SPLITS = ("train", "val", "test", "none")
MODALITIES = ("audio", "video", "text")
Modality = Literal["audio", "video", "text"]

# A dot would split the key of a WebDataset sample, so ids have none.
SAMPLE_ID = re.compile(r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+){2,}$")


@dataclass(frozen=True, slots=True)
class Sample:
    """One utterance of one corpus: where it is, who speaks, and everything the release says about it."""

    sample_id: str
    """`corpus/split-or-dialogue/name`: letters, digits, `_`, `-` and `/` only."""
    corpus: str
    split: str
    """`train`, `val`, `test` or `none`."""
    label: str | None = None
    """The native single label exactly as released; null where the corpus has intensities or none."""
    intensities: dict[str, float] | None = None
    """Native multi-label intensities by native name (CMU-MOSEI); null elsewhere."""
    dialogue: str | None = None
    """Identifier of the conversation, unique within the corpus (it carries the split where names repeat)."""
    speaker: str | None = None
    turn: int | None = None
    """Position of the utterance in its dialogue, from 0."""
    start: float | None = None
    """Start in seconds on the release's own time line (dialogue, episode, full video or film)."""
    end: float | None = None
    duration: float | None = None
    """Seconds of the utterance; null where no annotation gives it (then the media does)."""
    video_path: str | None = None
    """Picture, relative to the corpus root."""
    video_start: float | None = None
    """Interval to cut from `video_path` in seconds; null means the whole file."""
    video_end: float | None = None
    video_side: str = "full"
    """`left`, `right` (split-screen recordings) or `full`."""
    video_status: str = "ok"
    """`ok`, or why there is no usable picture: `missing_media`, `known_bad`."""
    audio_path: str | None = None
    """Sound, relative to the corpus root; may be the video file."""
    audio_start: float | None = None
    audio_end: float | None = None
    audio_status: str = "ok"
    text: str | None = None
    text_source: str = "transcript"
    """`transcript`, `asr` or `none`."""
    text_status: str = "ok"
    """`ok` or `no_text`."""
    marks: tuple[str, ...] = ()
    """Named facts about the row: `known_bad`, `near_empty`, `over_long`, `negative_start`, ..."""
    native: dict[str, Any] = field(default_factory=dict)
    """Every annotation field that has no column of its own, as released."""


ARROW_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("sample_id", "corpus", "split")),
        ("label", pa.string()),
        ("intensities", pa.map_(pa.string(), pa.float64())),
        ("dialogue", pa.string()),
        ("speaker", pa.string()),
        ("turn", pa.int32()),
        *((name, pa.float64()) for name in ("start", "end", "duration")),
        ("video_path", pa.string()),
        *((name, pa.float64()) for name in ("video_start", "video_end")),
        *((name, pa.string()) for name in ("video_side", "video_status", "audio_path")),
        *((name, pa.float64()) for name in ("audio_start", "audio_end")),
        *((name, pa.string()) for name in ("audio_status", "text", "text_source", "text_status")),
        ("marks", pa.list_(pa.string())),
        ("native", pa.string()),
    ]
)
"""Columns of `samples/<corpus>.parquet`; `native` is a JSON object."""


STORED_INTENSITIES = pa.list_(pa.struct([pa.field("key", pa.string(), nullable=False), ("value", pa.float64())]))
"""`intensities` on disk, because Hugging Face datasets know no map; Parquet lays both out alike."""


NOT_NULL = frozenset({"sample_id", "corpus", "split", "video_side", "text_source", "native"}) | {
    f"{modality}_status" for modality in MODALITIES
}
"""Columns in which null would say something that nobody knows."""


def stored(table: pa.Table) -> pa.Table:
    """A samples table as it is written."""
    place = table.schema.get_field_index("intensities")
    return table.set_column(place, "intensities", table["intensities"].cast(STORED_INTENSITIES))


def conform(table: pa.Table) -> pa.Table:
    """A samples table from disk, of this or another version, in today's columns; one that was not there yet is null.

    Raises:
        DataError: It has a column or a type that this version does not know, or lacks one that cannot be null.
    """
    unknown = [name for name in table.schema.names if name not in ARROW_SCHEMA.names]
    lacking = sorted(NOT_NULL.difference(table.schema.names))
    if unknown or lacking:
        parts = [f"the unknown column {name}" for name in unknown] + [f"no column {name}" for name in lacking]
        raise DataError(f"has {' and '.join(parts)}")
    columns = []
    for field_ in ARROW_SCHEMA:
        if field_.name not in table.schema.names:
            columns.append(pa.nulls(table.num_rows, field_.type))
            continue
        column = table[field_.name]
        if field_.name == "intensities" and column.type.equals(STORED_INTENSITIES):
            columns.append(_as_map(column))
            continue
        try:
            columns.append(column.cast(field_.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise DataError(
                f"has the column {field_.name} as {table.schema.field(field_.name).type}, expected {field_.type}"
            ) from None
    return pa.Table.from_arrays(columns, schema=ARROW_SCHEMA)


def _as_map(column: pa.ChunkedArray) -> pa.Array:
    lists = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    keys, values = lists.values.field("key"), lists.values.field("value")
    return pa.MapArray.from_arrays(lists.offsets, keys, values, mask=lists.is_null())


def check_sample_id(sample_id: str) -> str:
    """Return the id unchanged; raises `DataError` if it does not match `SAMPLE_ID`: a tar would not keep it."""
    if not SAMPLE_ID.fullmatch(sample_id):  # `match` would let a line feed through at the end
        raise DataError(
            f"sample id {sample_id!r} is not usable: expected corpus/part/name of letters, digits, '_' and '-'"
        )
    return sample_id


def to_table(samples: Iterable[Sample]) -> pa.Table:
    """Turn samples into an Arrow table of `ARROW_SCHEMA`, sorted by id.

    Raises:
        DataError: An id is malformed or occurs twice, or a split has an unknown name.
    """
    rows = sorted(samples, key=lambda sample: sample.sample_id)
    previous = None
    for row in rows:
        check_sample_id(row.sample_id)
        if row.sample_id == previous:
            raise DataError(f"sample id {row.sample_id!r} occurs twice: ids must be unique within a corpus")
        if row.split not in SPLITS:
            raise DataError(f"sample {row.sample_id!r} has split {row.split!r}: expected one of {', '.join(SPLITS)}")
        previous = row.sample_id
    columns: dict[str, list[Any]] = {f.name: [getattr(row, f.name) for row in rows] for f in fields(Sample)}
    columns["intensities"] = [None if v is None else list(v.items()) for v in columns["intensities"]]
    columns["marks"] = [list(v) for v in columns["marks"]]
    columns["native"] = [json.dumps(v, ensure_ascii=False, sort_keys=True) for v in columns["native"]]
    arrays = [pa.array(columns[f.name], type=f.type) for f in ARROW_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=ARROW_SCHEMA)


def from_table(table: pa.Table) -> list[Sample]:
    """Read samples back from a table that `to_table` made, in the table's order."""
    rows = []
    for record in table.select(ARROW_SCHEMA.names).to_pylist():
        record["intensities"] = None if record["intensities"] is None else dict(record["intensities"])
        record["marks"] = tuple(record["marks"] or ())
        record["native"] = json.loads(record["native"])
        rows.append(Sample(**record))
    return rows
