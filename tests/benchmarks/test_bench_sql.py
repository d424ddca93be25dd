"""Nearest neighbours in SQL over 45,000 vectors of width 768: from the Parquet files, and from the index.

Both are timed in turn in this process on connections of their own. A command is timed with the start of its process.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from merloco.features.query.index import read_index, shards_dataset
from merloco.features.query.views import connect
from merloco.features.shards.commit import commits
from merloco.features.store import FeatureStore
from tests.helpers.large_store import LABELS, large_store
from tests.helpers.store_files import CATALOG

ROWS, WIDTH, ROUNDS = 45_000, 768, 7
NEAREST = """
    with q as (select pooled from minilm where sample_id = 'meld/d0/u0000003')
    select sample_id, array_cosine_similarity(m.pooled, q.pooled) as cosine
    from minilm m, q where status = 'ok' order by cosine desc, sample_id limit 10
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    root = tmp_path_factory.mktemp("sql") / "store"
    return large_store(root, list(LABELS), ROWS // len(LABELS), {"text": WIDTH}, tars=False)


def seconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def command(store: FeatureStore, query: str) -> None:
    argv = [sys.executable, "-m", "merloco.flows.cli.app", "sql", query, "--store", str(store.root)]
    subprocess.run([*argv, "--catalog", str(CATALOG)], check=True, stdout=subprocess.DEVNULL)


def test_nearest_neighbours(store: FeatureStore) -> None:
    folder = store.folder(store.view("minilm"))

    def ask() -> list[tuple]:
        return store.sql(NEAREST).fetchall()

    def without() -> list[tuple]:
        connection = connect(store, "select 1")
        connection.register("minilm", shards_dataset(folder, commits(folder)))
        return connection.sql(NEAREST).fetchall()

    first = seconds(ask)
    before, after = [], []
    for _ in range(ROUNDS):
        before.append(seconds(without))
        after.append(seconds(ask))
    assert read_index(folder) is not None and ask() == without()
    cold = [seconds(lambda: command(store, NEAREST)) for _ in range(3)]
    small = [seconds(lambda: command(store, "select count(*) from samples")) for _ in range(3)]
    start = [seconds(lambda: subprocess.run([sys.executable, "-c", "import duckdb, pyarrow"])) for _ in range(3)]
    old, new = statistics.median(before), statistics.median(after)
    print(f"\nnearest of {ROWS} x {WIDTH}: Parquet {old:.3f} s, index {new:.3f} s ({old / new:.1f}x)")
    print(f"first query, which makes the index: {first:.2f} s")
    print(
        f"merloco sql, process start included: nearest {min(cold):.2f} s, count {min(small):.2f} s "
        f"({min(small) / min(start):.1f}x a process that imports duckdb and pyarrow, {min(start):.2f} s)"
    )
    assert old / new > 3
