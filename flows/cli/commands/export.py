"""The command that hands features over to other tools: export."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

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
    modality_list,
    open_store,
)
from merloco.pipelines.errors import UsageError


def export(
    to: Annotated[
        Literal["parquet", "hf", "mmsa"],
        typer.Option("--to", help="One Parquet file, a Hugging Face folder, or an MMSA-style pickle of one corpus."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The file or folder to write; it must not exist.")],
    features: FeaturesOption = "light",
    corpora: CorporaOption = None,
    modalities: ModalitiesOption = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
) -> None:
    """Write features and labels for other tools: pooled vectors (parquet, hf) or padded segments (mmsa).

    Example: merloco export --to parquet --out features.parquet --features light --store demo/store
    """
    from merloco.features.export.mmsa import write_mmsa
    from merloco.features.export.parquet import card, export_table, refuse_existing, write_hf, write_one_parquet

    refuse_existing(out)
    chosen = modality_list(modalities)
    opened = open_store(catalog, store)
    names = opened.corpora(split_list(corpora))
    left_out: Counter[str] = Counter()
    if to == "mmsa":
        if chosen is not None:
            raise UsageError("an MMSA pickle holds all three modalities: leave out --modalities")
        if len(names) != 1:
            raise UsageError(f"an MMSA pickle holds one data set: name one of {', '.join(names)} with --corpora")
        views = opened.views(features).values()
        with progress_bar(sum(c.ok for v in views for c in opened.committed(v, names)), "export", "sequences") as bar:
            counts, left_out = write_mmsa(opened, features, names[0], out, bar.update)
    else:
        table = export_table(opened, features, names, chosen)
        about = card(opened, features, names, chosen)
        counts = write_one_parquet(opened, table, out) if to == "parquet" else write_hf(opened, table, about, out)
    print_rows(["split", "rows"], list(counts.items()), f"Wrote {out}")
    if left_out:
        note("Not in it: " + ", ".join(f"{reason} {n}" for reason, n in left_out.most_common()))
