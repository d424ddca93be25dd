"""The command that hands features over to other tools: export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import typer

from merloco.flows.arguments import split_list
from merloco.flows.cli.console import note, print_rows, progress_bar
from merloco.flows.cli.options import (
    CATALOG,
    CatalogOption,
    CorporaOption,
    FeaturesOption,
    ModalitiesOption,
    StoreOption,
    open_store,
)
from merloco.pipelines.errors import UsageError

if TYPE_CHECKING:
    from merloco.features.export.mmsa import Tokenize
    from merloco.features.store import FeatureStore

ONE_CORPUS = {
    "mmsa": "an MMSA pickle holds all three modalities",
    "audformat": "an audformat database holds no features",
}
"""Formats that hold one data set, and why they take no modalities."""
BERT_TOKENS = 512
"""Word pieces kept of a text: as many as BERT has positions for."""


def export(
    to: Annotated[
        Literal["parquet", "hf", "mmsa", "audformat"],
        typer.Option(
            "--to",
            help="One Parquet file, a Hugging Face folder, or of one corpus: an MMSA-style pickle, or its annotation "
            "as an audformat database.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The file or folder to write; it must not exist.")],
    features: FeaturesOption = "light",
    corpora: CorporaOption = None,
    modalities: ModalitiesOption = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
) -> None:
    """Write features and labels for other tools: pooled vectors (parquet, hf), padded segments (mmsa), or no features.

    How each tool reads them is in docs/interoperability.md.

    Example: merloco export --to parquet --out features.parquet --features light --store demo/store
    """
    from merloco.features.export.audformat import write_audformat
    from merloco.features.export.huggingface import card, write_hf
    from merloco.features.export.parquet import export_classes, export_table, refuse_existing, write_one_parquet

    refuse_existing(out)
    chosen = split_list(modalities)
    opened = open_store(catalog, store)
    names = opened.corpora(split_list(corpora))
    notes: list[str] = []
    if to in ONE_CORPUS:
        if chosen is not None:
            raise UsageError(f"{ONE_CORPUS[to]}: leave out --modalities")
        if len(names) != 1:
            raise UsageError(f"{to} holds one data set: name one of {', '.join(names)} with --corpora")
    if to == "mmsa":
        counts, notes = _mmsa(opened, features, names[0], out)
    elif to == "audformat":
        counts = write_audformat(opened, names[0], out)
    else:
        table = export_table(opened, features, names, chosen)
        if to == "parquet":
            counts = write_one_parquet(opened, table, out)
        else:
            about = card(opened, features, names, chosen)
            counts = write_hf(opened, table, about, export_classes(opened, names), out)
    print_rows(["split", "rows"], list(counts.items()), f"Wrote {out}")
    for sentence in notes:
        note(sentence)


def _mmsa(store: FeatureStore, features: str, corpus: str, out: Path) -> tuple[dict[str, int], list[str]]:
    """Rows of each part, and what a reader should know of the pickle."""
    from merloco.features.export.mmsa import write_mmsa

    tokenize, lacking = _bert_tokenizer()
    views = store.views(features).values()
    with progress_bar(sum(c.ok for v in views for c in store.committed(v, [corpus])), "export", "sequences") as bar:
        data = write_mmsa(store, features, corpus, out, bar.update, tokenize)
    notes = [f"regression_labels: {data.regression}"]
    if data.left_out:
        notes.append("Not in it: " + ", ".join(f"{reason} {n}" for reason, n in data.left_out.most_common()))
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
