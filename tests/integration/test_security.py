"""Untrusted files stay data, queries stay inside, words of a corpus never become markup, nobody phones home."""

import ast
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from merloco.features.cards.corpus import write_card
from merloco.features.query.portable import NUMBERS
from merloco.features.query.sql import stream
from merloco.features.runs import run_path
from merloco.features.store import FeatureStore
from merloco.flows.report.write import write_report
from merloco.models.checkpoints.convert import convert
from merloco.models.errors import ModelError
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.checks.findings import SampleFinding, write_findings
from merloco.pipelines.errors import DataError, UsageError
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import Sample, from_table, to_table
from merloco.pipelines.samples.table import samples_path
from merloco.pipelines.statistics.counts import stats
from tests.helpers.run_folder import make_run
from tests.helpers.store_files import CATALOG, make_store

WORKSPACE = CATALOG.parent
SOURCES = sorted(p for name in ("pipelines", "features", "models", "flows") for p in (WORKSPACE / name).rglob("*.py"))


def calls(path: Path) -> list[tuple[str, dict[str, ast.expr]]]:
    """Every call in a file as its dotted name and its keywords."""
    nodes = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    return [(ast.unparse(n.func), {k.arg: k.value for k in n.keywords if k.arg}) for n in nodes]


def is_constant(keywords: dict[str, ast.expr], name: str, value: object) -> bool:
    node = keywords.get(name)
    return isinstance(node, ast.Constant) and node.value is value


# No code is loaded from data.


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(WORKSPACE)))
def test_no_source_file_loads_code_from_data_or_runs_a_shell(path: Path) -> None:
    for name, keywords in calls(path):
        assert not name.startswith(("pickle.load", "pickle.Unpickler", "joblib.", "dill.", "marshal.", "shelve.")), name
        assert name not in ("eval", "exec", "os.system", "os.popen", "yaml.load_all", "yaml.unsafe_load"), name
        assert name != "np.load" or is_constant(keywords, "allow_pickle", False), f"{name} without allow_pickle=False"
        assert name != "torch.load" or is_constant(keywords, "weights_only", True), f"{name} without weights_only=True"
        assert name != "yaml.load" or "Loader" in keywords, f"{name} without a safe loader"
        assert not name.startswith("subprocess.") or not is_constant(keywords, "shell", True), f"{name} with a shell"
        assert "trust_remote_code" not in keywords or is_constant(keywords, "trust_remote_code", False), name


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.target,))


def test_a_checkpoint_that_is_a_pickle_of_code_is_refused_unopened(tmp_path: Path) -> None:
    target = tmp_path / "opened"
    (tmp_path / "model.pt").write_bytes(pickle.dumps({"state_dict": Bomb(target)}))
    with pytest.raises(ModelError) as error:
        convert(tmp_path / "model.pt", tmp_path / "model.safetensors")
    assert "\n" not in str(error.value) and not target.exists()


def test_a_zipped_checkpoint_with_code_is_refused_unopened(tmp_path: Path) -> None:
    import torch

    target = tmp_path / "opened"
    torch.save({"state_dict": {"w": torch.ones(1)}, "hook": Bomb(target)}, tmp_path / "model.pt")
    with pytest.raises(ModelError):
        convert(tmp_path / "model.pt", tmp_path / "model.safetensors")
    assert not target.exists()


def test_weights_of_a_run_are_safetensors_and_nothing_else(tmp_path: Path) -> None:
    from merloco.flows.experiments.prediction import load_run

    target = tmp_path / "opened"
    folder = make_run(
        tmp_path,
        [],
        training={},
        label_maps={"meld": {"classes": ["happy", "sad"]}},
    )
    (folder / "weights.safetensors").write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(DataError, match="no weights that can be read"):
        load_run(folder)
    assert not target.exists()


@pytest.mark.parametrize(
    "attack",
    [
        "store: !!python/object/apply:os.system ['touch {target}']",
        "store: !!python/object/new:os.system ['touch {target}']",
        "store: !!python/name:os.system",
    ],
)
def test_a_catalog_runs_nothing(tmp_path: Path, attack: str) -> None:
    target = tmp_path / "opened"
    (tmp_path / "catalog.yaml").write_text(attack.format(target=target))
    with pytest.raises(DataError, match="broken YAML"):
        load_catalog(tmp_path / "catalog.yaml")
    assert not target.exists()


# Queries reach nothing but the views.


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("store"), n=20)


QUERIES = [
    "select * from read_csv('{secret}')",
    "select * from read_text('{secret}')",
    "select * from read_blob('{secret}')",
    "select * from read_json('{secret}')",
    "select * from read_parquet('{secret}')",
    "select * from sniff_csv('{secret}')",
    "select * from parquet_metadata('{secret}')",
    "select * from glob('{folder}/*')",
    "from '{secret}'",
    "from '/etc/passwd'",
    "from 'https://example.org/x.parquet'",
    "select * from read_csv('https://example.org/x.csv')",
    "select getenv('HOME')",
    "copy (select 1) to '{new}'",
    "copy samples to '{new}'",
    "export database '{new}'",
    "import database '{folder}'",
    "attach '{new}' as other",
    "attach 'https://example.org/x.db' as other",
    "install httpfs",
    "load httpfs",
    "create secret (type s3)",
    "pragma database_list",
    "set enable_external_access = true",
    "reset enable_external_access",
    "set lock_configuration = false",
    "set file_search_path = '/etc'",
    "select 1; copy (select 1) to '{new}'",
    "select 1; select 2",
    "create table t as select 1",
    "create view samples as select 1",
    "drop view samples",
    "call pragma_version()",
    "with x as (select 1) insert into samples select * from x",
    "explain analyze copy (select 1) to '{new}'",
    "",
    "-- nothing",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_reaches_no_file_no_network_no_environment_and_changes_nothing(
    store: FeatureStore, tmp_path: Path, query: str
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with pytest.raises(DataError) as error:
        list(stream(store, query.format(secret=secret, folder=tmp_path, new=tmp_path / "new"), NUMBERS))
    assert str(error.value).startswith("SQL: ") and "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["secret.csv"]


def test_a_query_does_not_see_variables_of_the_caller(store: FeatureStore) -> None:
    import pyarrow as pa

    secret = pa.table({"password": ["x"]})
    with pytest.raises(DataError, match="secret does not exist"):
        store.sql("select * from secret")
    assert secret.num_rows == 1


# Names never lead out of the store.


@pytest.mark.parametrize("kind", ["corpora", "views", "feature_sets", "experiments"])
@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/b", "..", "a.b", "-x", "x\n", ""])
def test_names_of_a_catalog_are_names_of_files(tmp_path: Path, kind: str, name: str) -> None:
    raw = yaml.safe_load(CATALOG.read_text())
    raw[kind] = {**raw[kind], name: next(iter(raw[kind].values()))}
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(DataError, match="cannot be a name: expected letters, digits"):
        load_catalog(tmp_path / "catalog.yaml")


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "/etc", ".hidden", "a\nb", ""])
def test_an_experiment_writes_inside_the_store(tmp_path: Path, name: str) -> None:
    config = {"experiment": name, "protocol": "loco", "test": ["meld"], "seed": 0}
    with pytest.raises(UsageError, match="cannot be the name of a folder"):
        run_path(tmp_path, config)


@pytest.mark.parametrize(
    "sample_id", ["meld/../../x", "/etc/passwd/x", "meld/a/../b", "meld/train/x\n", "meld/train/x\0", "meld\\a\\b"]
)
def test_ids_never_lead_out_of_the_store(sample_id: str) -> None:
    with pytest.raises(DataError, match="not usable"):
        to_table([Sample(sample_id, "meld", "train")])


# Words of a corpus are never markup.

SCRIPT = "</script><script>alert('x')</script>"


@pytest.fixture
def hostile(tmp_path: Path) -> FeatureStore:
    """A store whose texts, speakers and findings are scripts."""
    store = make_store(tmp_path / "store", n=60)
    samples = [replace(s, text=f"{SCRIPT} {i}", speaker=SCRIPT) for i, s in enumerate(from_table(store.samples()))]
    write_parquet(samples_path(store.root, "meld"), to_table(samples))
    write_findings(store.root, "meld", [SampleFinding("meld", "x", "warning", 1, (SCRIPT,), SCRIPT)])
    make_run(store.root, [s.sample_id for s in samples], {"text": store.view("minilm").fingerprint})
    return store


def test_a_report_shows_hostile_text_as_text(hostile: FeatureStore, tmp_path: Path) -> None:
    write_report(hostile, "loco", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "alert(" in page and SCRIPT not in page and "<script>alert(" not in page


def test_a_data_card_shows_hostile_text_as_text(hostile: FeatureStore, tmp_path: Path) -> None:
    [comparison] = stats(hostile.root, hostile.catalog, ["meld"])
    card = write_card(hostile, comparison, tmp_path / "cards").read_text(encoding="utf-8")
    assert "alert(" in card and "<script" not in card


# Nobody phones home.

OFF = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def test_telemetry_is_off_before_prefect_and_the_hub_are_imported(tmp_path: Path) -> None:
    code = """
import json, os, sys
import merloco.flows
before = {"prefect", "huggingface_hub"} & set(sys.modules)
import merloco.flows.ingest.flow, huggingface_hub.constants
from prefect.settings import get_current_settings
settings = get_current_settings()
print(json.dumps([sorted(before), dict(os.environ), settings.server.analytics_enabled,
                  huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY]))
"""
    clean = {k: v for k, v in os.environ.items() if k not in OFF} | {"PREFECT_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=WORKSPACE, env=clean
    )
    imported, environment, analytics, hub_is_silent = json.loads(done.stdout)
    assert imported == [] and {name: environment.get(name) for name in OFF} == OFF
    assert analytics is False and hub_is_silent is True
