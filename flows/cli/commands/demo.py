"""The command demo: miniature corpora in the native layouts, then the main job on them from ingest to SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from merloco.features.catalog import load_catalog, own_or_builtin
from merloco.features.store import FeatureStore
from merloco.flows.cli.commands.extract import run_extract
from merloco.flows.cli.commands.ingest import run_ingest
from merloco.flows.cli.commands.train import run_loco
from merloco.flows.cli.console import progress_bar, show
from merloco.flows.cli.options import CATALOG, CatalogOption, FlowOption, next_command
from merloco.flows.ingest.audit_tables import print_audits

QUESTIONS = {
    "How do the emotions spread over the corpora?": """
        select corpus, split, count(*) as usable, count(distinct emotion) as classes, mode(emotion) as most_frequent
        from labels where emotion is not null group by all order by all""",
    "Which sentences of other corpora are nearest to an angry one, by the cosine of their embeddings?": """
        with asked as (
            select sample_id, s.corpus, text, pooled
            from samples s join minilm using (sample_id) join labels using (sample_id)
            where s.corpus = 'meld' and emotion = 'angry' and pooled is not null
            order by length(text) desc, sample_id limit 1)
        select a.text as asked, s.corpus, s.text as nearest, emotion,
               array_cosine_similarity(a.pooled, m.pooled) as cosine
        from asked a, minilm m join samples s using (sample_id) join labels using (sample_id)
        where s.corpus <> a.corpus and m.pooled is not null order by cosine desc, s.sample_id limit 5""",
    "Which emotions get lost when a corpus is left out, and to what?": """
        select corpus, truth, prediction as taken_for, count(*) as times, round(avg(probabilities[truth]), 3) as p_truth
        from predictions join runs using (run)
        where truth <> prediction and experiment = 'loco'
        group by all order by times desc, corpus, truth, taken_for limit 6""",
}


def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo corpora and their store go.")] = Path("demo"),
    catalog: CatalogOption = CATALOG,
    flow: FlowOption = True,
) -> None:
    """Make four miniature corpora and run everything on them: ingest, extract, leave-one-corpus-out, SQL.

    Example: merloco demo
    """
    run_demo(folder, catalog, flow)


def run_demo(folder: Path, catalog: str, flow: bool) -> None:
    """Build the demo corpora, ingest, extract, run leave-one-corpus-out and ask three questions.

    Args:
        folder: Gets `corpora/` and `store/`; what is already there is used again.
        catalog: Path of the catalog; merloco's own where the default one is not there.
        flow: Run ingest and extraction as Prefect flows, and the training too where a Prefect API is configured.
    """
    from merloco.pipelines.demo.build import build_demo

    named, catalog = catalog, own_or_builtin(catalog)
    with progress_bar(1, "demo corpora", "files") as bar:

        def moved(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        roots = {name: str(root) for name, root in build_demo(folder / "corpora", progress=moved).items()}
    store_path = str(folder / "store")
    FeatureStore.open(store_path, load_catalog(catalog, store_path), create=True)
    print("== Ingest: four native releases -> one samples table ==\n")
    outcomes = run_ingest(catalog, store_path, roots, flow)
    for outcome in outcomes.values():
        if isinstance(outcome, Exception):
            raise outcome
    print_audits(list(outcomes.values()))
    print("\n== Extract: encoder embeddings -> WebDataset shards and Parquet ==\n")
    run_extract(catalog, store_path, "light", list(roots), None, roots=roots, flow=flow)
    print("\n== Leave one corpus out: train on three corpora, test on the fourth ==\n")
    run_loco(catalog, store_path, corpora=list(roots), flow=None if flow else False)
    print("\n== Ask in SQL ==")
    store = FeatureStore.open(store_path, load_catalog(catalog, store_path))
    for title, query in QUESTIONS.items():
        print(f"\n{title}")
        show(store.sql(query).to_arrow_table())
    print(f"\nNext: {next_command('sql', 'select * from metrics limit 5', catalog=named, store=store_path)}")
