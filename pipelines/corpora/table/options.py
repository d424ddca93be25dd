"""What a catalog entry says of a corpus that the parser `table` reads."""

from __future__ import annotations

import difflib
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from merloco.pipelines.catalog.entries import Entry
from merloco.pipelines.corpora.cells import split_of, unknown_split
from merloco.pipelines.corpora.table.patterns import MODALITY, Pattern

FIELDS = ("split", "label", "speaker", "dialogue", "turn", "text", MODALITY)
"""Fields of a pattern that mean something; the value of any other one is kept in `native`."""
MODALITY_VALUES = ("audio", "video", "audio_video")
"""What the field `modality` may say of a file, after `values`."""


class Columns(Entry):
    """Shared name -> column of the tables; columns that are not named here are kept in `native`."""

    name: str | None = None
    """Name of the utterance, unique within its dialogue, or its speaker where there are no dialogues. By default the
    path of its media file, with the interval where there is one, or the turn."""
    label: str | None = None
    """The one label of an utterance, as the label maps name it."""
    intensities: dict[str, str] = Field({})
    """Native class -> column of its intensity, or a list of columns that are called like their classes."""
    split: str | None = None
    """train, val, test and other words for them; empty or none for no split."""
    speaker: str | None = None
    """Who speaks."""
    dialogue: str | None = None
    """Conversation; with `files` by split its name gets the split in front, for they often count from the beginning."""
    turn: str | None = None
    """Position in the dialogue; by default utterances are numbered by their start."""
    start: str | None = None
    """Start of the utterance within its media file, in seconds or as a time; the whole file where it is empty."""
    end: str | None = None
    """End within the media file."""
    text: str | None = None
    """What is said; a sample without it may be transcribed."""
    media: str | None = None
    """Media file, for what it holds: sound, or pictures and sound."""
    audio: str | None = None
    """Media file for its sound alone."""
    video: str | None = None
    """Media file for its pictures; also for its sound where no column has that."""

    @field_validator("intensities", mode="before")
    @classmethod
    def _columns_called_like_classes(cls, value: Any) -> Any:
        is_list = isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)
        return {name: name for name in value} if is_list else value

    @model_validator(mode="after")
    def _names_an_utterance(self) -> Self:
        if self.label and self.intensities:
            raise ValueError("label and intensities: expected one of them")
        if self.media and (self.audio or self.video):
            raise ValueError("media beside audio or video: expected one column for both, or one for each")
        if not (self.name or self.media or self.audio or self.video or (self.dialogue and self.turn)):
            raise ValueError("nothing names an utterance: expected name, media, audio, video, or dialogue and turn")
        return self

    @property
    def named(self) -> dict[str, str]:
        """Key as a catalog writes it -> column, for every column that is named."""
        single = {key: column for key, column in self if isinstance(column, str)}
        return single | {f"intensities.{name}": column for name, column in self.intensities.items()}


class Splits(Entry):
    """Splits made by seed, or by lists of names, where the corpus has none. The order of rows plays no part."""

    by: Literal["speaker", "dialogue", "random"] = "speaker"
    """What stays together; `random` takes every utterance by itself."""
    test: float | tuple[str, ...] | None = None
    """Share of the utterances, or the names of the speakers or dialogues."""
    val: float | tuple[str, ...] | None = None
    """Like `test`. Beside a split that the corpus has, validation is taken out of its training part."""
    seed: int = Field(7, ge=0)
    """Another one is another choice."""
    stratified: bool = True
    """Whether each part has every label as often as whole groups allow."""

    @field_validator("test", "val", mode="plain")
    @classmethod
    def _share_or_names(cls, value: Any) -> float | tuple[str, ...] | None:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if not 0 < value < 1:
                raise ValueError(f"a share of {value:g}: expected a number between 0 and 1")
            return float(value)
        if isinstance(value, (list, tuple)) and value:
            other = [name for name in value if not isinstance(name, str)]
            if other:
                raise ValueError(f"{other[0]!r} among names: quote it")
            return tuple(value)
        if value is None:
            return None
        raise ValueError(f"{value!r}: expected a share such as 0.2, or a list of names such as [s1, s2]")

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> Self:
        if self.test is None and self.val is None:
            raise ValueError("expected test, val or both")
        shares = [part for part in (self.test, self.val) if isinstance(part, float)]
        if sum(shares) >= 1:
            raise ValueError(f"test {self.test:g} and val {self.val:g} leave nothing to train on")
        lists = [part for part in (self.test, self.val) if isinstance(part, tuple)]
        if lists and self.by == "random":
            raise ValueError("names need `by: speaker` or `by: dialogue`")
        both = sorted(set(lists[0]).intersection(*lists[1:])) if len(lists) == 2 else []
        if both:
            raise ValueError(f"{both[0]!r} is in test and in val: expected it once")
        return self


class TableOptions(Entry):
    """Options of the parser `table`: tables and their columns, or a pattern of file names."""

    file: str | None = None
    """A table below the root: CSV, TSV, JSON Lines or Parquet, by its ending; `*` stands for any part of a name."""
    files: dict[str, tuple[str, ...]] = Field({})
    """Split -> its table or list of tables; a plain list is of tables that are no splits."""
    columns: Columns | None = None
    """Which column holds what; every table has them."""
    media_folder: str = ""
    """Folder below the root that the paths of media files begin in."""
    pattern: tuple[str, ...] = ()
    """Path of a media file below the root with `{field}` for what varies, or a list of such; see docs/own-corpus.md."""
    values: dict[str, dict[str, str]] = Field({})
    """Shared name, or field of a pattern -> code -> what it stands for; other codes stay as they are."""
    splits: Splits | None = None
    """How a corpus without splits is split; without this every split is none."""

    @field_validator("files", mode="before")
    @classmethod
    def _files_by_split(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return {"": tuple(value)}
        if isinstance(value, dict):
            return {split: _listed(files) for split, files in value.items()}
        return value

    @field_validator("pattern", mode="before")
    @classmethod
    def _one_pattern(cls, value: Any) -> Any:
        return _listed(value)

    @model_validator(mode="after")
    def _tables_or_a_pattern(self) -> Self:
        given = [key for key in ("file", "files", "pattern") if getattr(self, key)]
        if len(given) != 1:
            raise ValueError(f"{' and '.join(given) or 'nothing to read'}: expected one of file, files and pattern")
        if self.pattern and (self.columns or self.media_folder):
            raise ValueError("columns and media_folder are of tables; a pattern has fields")
        if not self.pattern and self.columns is None:
            raise ValueError("columns is missing: expected shared names and the columns that hold them")
        for split in self.files:
            if split not in ("", "none") and split_of(split) is None:
                raise ValueError(f"files: {unknown_split(split)}, or none")
        fields = {name for pattern in self.patterns for name in pattern.fields}
        for name in sorted(fields - set(FIELDS)):
            near = difflib.get_close_matches(name, set(FIELDS) - fields, n=1, cutoff=0.8)
            if near:
                raise ValueError(
                    f"pattern: field {name!r}: did you mean {near[0]!r}? fields with a meaning: {', '.join(FIELDS)}"
                )
        known = fields if self.pattern else set(self.columns.named if self.columns else ())
        for name in self.values:
            if name not in known:
                raise ValueError(f"values: {name!r} is none of {', '.join(sorted(known))}")
        wrong = set(self.values.get(MODALITY, {}).values()) - set(MODALITY_VALUES)
        if self.pattern and wrong:
            raise ValueError(f"values: modality {min(wrong)!r}: expected one of {', '.join(MODALITY_VALUES)}")
        return self

    @property
    def patterns(self) -> list[Pattern]:
        """The patterns, ready to match."""
        return [Pattern.of(text) for text in self.pattern]


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
