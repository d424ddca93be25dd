"""The command that hands features over to other tools: export."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import numpy as np
import typer

from merloco.flows.arguments import split_list
from merloco.flows.cli.console import note, print_rows, progress_bar
from merloco.flows.cli.options import (
    CATALOG,
    CatalogOption,
    CorporaOption,
    ModalitiesOption,
    StoreOption,
    ingested_names,
    open_store,
)
from merloco.pipelines.errors import UsageError
from merloco.pipelines.files.space import size_text

if TYPE_CHECKING:
    from merloco.features.export.mmsa import Tokenize
    from merloco.features.export.rows import Selection
    from merloco.features.store import FeatureStore

Kind = Literal["parquet", "hf", "duckdb", "mmsa", "audformat"]
KINDS = get_args(Kind)
FEATURES = "light"
REFUSED: dict[str, dict[str, str]] = {
    "duckdb": dict.fromkeys(("features", "corpora", "modalities"), "a DuckDB file holds the whole store"),
    "mmsa": {"modalities": "an MMSA pickle holds all three modalities"},
    "audformat": dict.fromkeys(("features", "modalities", "segments"), "an audformat database holds no features"),
}
"""Format -> options that mean nothing to it, and why."""
ONE_CORPUS = ("mmsa", "audformat")
"""Formats that hold one data set."""
BERT_TOKENS = 512
"""Word pieces kept of a text: as many as BERT has positions for."""


def export(
    kind: Annotated[Kind | None, typer.Argument(metavar="FORMAT", help=f"{', '.join(KINDS)}.")] = None,
    path: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="The file or folder to write; it must not exist.")
    ] = None,
    to: Annotated[Kind | None, typer.Option("--to", help="FORMAT, as an option.", hidden=True)] = None,
    out: Annotated[Path | None, typer.Option("--out", help="OUT, as an option.", hidden=True)] = None,
    features: Annotated[
        str | None, typer.Option("--features", help="Feature set of the catalog.", show_default=FEATURES)
    ] = None,
    corpora: CorporaOption = None,
    modalities: ModalitiesOption = None,
    segments: Annotated[
        bool, typer.Option("--segments", help="The sequences of segments too, beside the pooled vectors.")
    ] = False,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
) -> None:
    """Write features and labels for other tools, with text, speaker, duration and split.

    parquet: one file with a column per view. hf: a folder for Hugging Face datasets. duckdb: one file with a table per
    view of `merloco sql`. mmsa: padded segments of one corpus, as MMSA reads them. audformat: the annotation of one
    corpus, without features. How each tool reads them is in docs/interoperability.md.

    Example: merloco export parquet features.parquet --features light --store demo/store
    """
    from merloco.features.export.rows import Selection, refuse_existing
    from merloco.features.query.views import ViewWarning

    chosen, place = kind or to, path or out
    if chosen is None or place is None or (kind and to) or (path and out):
        raise UsageError(f"expected one format ({', '.join(KINDS)}) and one file or folder: merloco export FORMAT OUT")
    refuse_existing(place)
    given = {"features": features, "corpora": corpora, "modalities": modalities, "segments": segments}
    for option, why in REFUSED.get(chosen, {}).items():
        if given[option]:
            raise UsageError(f"{why}: leave out --{option}")
    of_modalities = split_list(modalities)
    opened = open_store(catalog, store)
    names = ingested_names(opened.corpora(split_list(corpora)))
    if chosen in ONE_CORPUS and len(names) != 1:
        raise UsageError(f"{chosen} holds one data set: name one of {', '.join(names)} with --corpora")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ViewWarning)
        selection = Selection(features or FEATURES, names, of_modalities, segments)
        counts, notes = _write(opened, chosen, selection, place)
    files = [file for file in (place, *place.rglob("*")) if file.is_file()]
    size = size_text(sum(file.stat().st_size for file in files))
    what = "table" if chosen == "duckdb" else "split"
    print_rows([what, "rows"], list(counts.items()), f"Wrote {place} ({size})")
    for sentence in [*notes, *(str(warning.message) for warning in warned)]:
        note(sentence)


def _write(store: FeatureStore, kind: Kind, selection: Selection, out: Path) -> tuple[Mapping[str, int], list[str]]:
    """Rows of each split or table, and what a reader should know."""
    from merloco.features.export.audformat import write_audformat
    from merloco.features.export.duckdb_file import write_duckdb
    from merloco.features.export.huggingface import write_hf
    from merloco.features.export.parquet import write_one_parquet
    from merloco.features.query.views import view_folders
    from merloco.features.shards.commit import commits

    if kind == "mmsa":
        return _mmsa(store, selection.feature_set, selection.corpora[0], out)
    if kind == "audformat":
        counts, left_out = write_audformat(store, selection.corpora[0], out)
        return counts, _not_in_it(left_out)
    if kind == "duckdb":
        current = [folder for _, folder, is_current in view_folders(store) if is_current]
        rows = sum(commit.rows for folder in current for commit in commits(folder))
        with progress_bar(rows, "export", "rows") as bar:
            return write_duckdb(store, out, selection.segments, bar.update), []
    with progress_bar(store.samples(selection.corpora).num_rows, "export", "samples") as bar:
        return (write_hf if kind == "hf" else write_one_parquet)(store, selection, out, bar.update), []


def _not_in_it(reasons: Counter[str]) -> list[str]:
    listed = ", ".join(f"{reason} {n}" for reason, n in reasons.most_common())
    return [f"Not in it: {listed}"] if listed else []


def _mmsa(store: FeatureStore, features: str, corpus: str, out: Path) -> tuple[dict[str, int], list[str]]:
    """Rows of each part, and what a reader should know of the pickle."""
    from merloco.features.export.mmsa import write_mmsa

    tokenize, lacking = _bert_tokenizer()
    views = store.views(features).values()
    with progress_bar(sum(c.ok for v in views for c in store.committed(v, [corpus])), "export", "sequences") as bar:
        data = write_mmsa(store, features, corpus, out, bar.update, tokenize)
    notes = [f"regression_labels: {data.regression}", *_not_in_it(data.left_out)]
    if empty := [name for name, n in data.counts.items() if not n]:
        notes.append(f"MMSA trains only where every part has rows: {', '.join(empty)} has none")
    if lacking:
        notes.append(f"text_bert is not in it: {lacking}")
    return data.counts, notes


def _bert_tokenizer() -> tuple[Tokenize | None, str]:
    """The tokenizer of MiniLM, whose vocabulary is that of bert-base-uncased, or why there is none.

    MMSA's models encode `text_bert` with bert-base-uncased: the tokens of another view's encoder would be other words.
    """
    from merloco.models.encoders.light.text import model_folder
    from merloco.models.errors import ModelError

    try:
        from tokenizers import Tokenizer

        path = model_folder() / "tokenizer.json"
    except ModuleNotFoundError:
        return None, "it needs `pip install 'merloco[text]'`"
    except ModelError as error:
        return None, str(error)
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(BERT_TOKENS)
    tokenizer.enable_padding()

    def tokenize(texts: Sequence[str]) -> np.ndarray:
        encoded = tokenizer.encode_batch(list(texts))
        return np.array([[e.ids, e.attention_mask, e.type_ids] for e in encoded], dtype=np.int64)

    return tokenize, ""
