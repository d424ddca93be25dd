"""Reading a corpus that its options describe: its tables or its folders, then its splits."""

from __future__ import annotations

from pathlib import Path

from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.corpora.base import Parsed, RowError
from merloco.pipelines.corpora.folders import find_entry, find_release
from merloco.pipelines.corpora.media_rules import with_media_rules
from merloco.pipelines.corpora.splits import number_turns
from merloco.pipelines.corpora.table.files import TABLE_ENDINGS, find_tables, read_records
from merloco.pipelines.corpora.table.first_rows import FirstRows
from merloco.pipelines.corpora.table.media import MediaFolders
from merloco.pipelines.corpora.table.options import TableOptions
from merloco.pipelines.corpora.table.rows import Reading, read_samples
from merloco.pipelines.corpora.table.splits import make_splits
from merloco.pipelines.corpora.table.tree import read_tree
from merloco.pipelines.errors import DataError, suggest

_VARYING = ("label", "intensities", "speaker", "dialogue", "text", "start", "end")
"""Shared names whose column in the samples table should vary where the corpus has it."""


def read_corpus(entry: CorpusEntry, root: Path, options: TableOptions) -> Parsed:
    """Read a corpus.

    Raises:
        DataError: A table or a column is missing, nothing fits the pattern, rows that disagree, times in another unit
            than seconds, or splits that cannot be made.
    """
    parsed = Parsed()
    labels = {label for label_map in entry.maps.values() for label in label_map.labels}
    if options.pattern:
        read_tree(entry.name, root, options, labels, parsed)
        given = {field for pattern in options.patterns for field in pattern.fields}
    else:
        _read_tables(entry.name, root, options, labels, parsed)
        given = _given(options)
    own_splits = "split" in given
    if options.splits:
        make_splits(parsed, options.splits, own_splits)
    elif not own_splits:
        parsed.notes.append(
            "no splits: every split is none; say `splits` in the options, such as {by: speaker, test: 0.2}"
        )
    parsed.varying = tuple(name for name in _VARYING if name in given)
    if own_splits or options.splits:
        parsed.varying += ("split",)
    if "label" in given:
        _note_unlabelled(parsed)
    parsed.samples = [with_media_rules(sample, entry.media_rules) for sample in parsed.samples]
    return parsed


def _given(options: TableOptions) -> set[str]:
    """Shared names that the tables have."""
    assert options.columns is not None
    named = {key.partition(".")[0] for key in options.columns.named}
    return named | ({"split"} if set(options.files) - {""} else set())


def _read_tables(corpus: str, root: Path, options: TableOptions, labels: set[str], parsed: Parsed) -> None:
    columns = options.columns
    assert columns is not None
    wanted = [
        (split, name) for split, names in (options.files or {"": (options.file or "",)}).items() for name in names
    ]

    def holds(folder: Path) -> bool:
        return any(find_tables(folder, name) for _, name in wanted)

    base = find_release(root, holds, _no_table(root, [name for _, name in wanted]), parsed.notes)
    folder = base / options.media_folder
    if options.media_folder and ".." in Path(options.media_folder).parts:
        raise DataError(f"media_folder {options.media_folder!r} leads out of the root: expected a folder below it")
    media = MediaFolders(root, find_entry([base], options.media_folder) or folder if options.media_folder else base)
    reading = Reading(corpus, columns, options.values, labels, media, FirstRows(parsed))
    for split, name in wanted:
        tables = find_tables(base, name)
        if not tables:
            raise DataError(_no_table(root, [name]))
        for path in tables:
            records = read_records(path, path.relative_to(root).as_posix(), columns.named)
            parsed.samples += read_samples(reading, records, split or None, parsed)
    if columns.dialogue and columns.start and not columns.turn:
        parsed.samples = number_turns(parsed.samples, lambda s: (s.start or 0.0, s.sample_id))
    parsed.notes += media.notes()


def _no_table(root: Path, names: list[str]) -> str:
    there = (
        sorted(path.name for path in root.iterdir() if path.suffix.lower() in TABLE_ENDINGS) if root.is_dir() else []
    )
    return f"no table {', '.join(map(repr, names))} under {str(root)!r}: {suggest(names[0], there)}"


def _note_unlabelled(parsed: Parsed) -> None:
    """An empty label is damage where others of its split have one, and a fact where the whole split has none."""
    labelled = {sample.split for sample in parsed.samples if sample.label is not None}
    empty = [sample for sample in parsed.samples if sample.label is None]
    for sample in empty:
        if sample.split in labelled:
            file, line = parsed.places[sample.sample_id]
            problem = f"{sample.sample_id} has no label; expected one, as in other rows of the split {sample.split}"
            parsed.errors.append(RowError("no_label", file, line, problem))
    withheld = sorted({sample.split for sample in empty} - labelled)
    if withheld:
        parsed.notes.append(f"no sample has a label in {' and '.join(withheld)}")
