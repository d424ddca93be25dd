"""A fusion network by name: in settings, on the command line, in SQL, in predictions; one of a user's own as well."""

import json
import re
from pathlib import Path

import pytest
import yaml

from merloco.features.catalog import load_catalog
from merloco.features.runs import FIRST_SETTINGS, run_identity, run_name
from merloco.features.store import FeatureStore
from merloco.flows.api import Store
from merloco.flows.experiments.prediction import load_run
from merloco.models.fusion.networks.base import BUILTIN
from merloco.pipelines.catalog.entries import Training
from merloco.pipelines.errors import DataError, UsageError
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.planted_store import planted_catalog, planted_store
from tests.helpers.store_files import CATALOG

NETWORK = '''
import torch


class Small(torch.nn.Module):
    """One layer over everything."""

    options = {"width": 8}

    def __init__(self, dims, classes, width):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(sum(dims.values()), width), torch.nn.ReLU(), torch.nn.Linear(width, classes)
        )

    def forward(self, features, present):
        return self.layers(torch.cat([features[m] for m in features], dim=-1))
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fusions")
    planted_store(folder / "store", planted_catalog(folder), n=90)
    return folder


def run(capsys: pytest.CaptureFixture, folder: Path, *arguments: str) -> tuple[int, str, str]:
    return merloco(
        capsys, *arguments, "--store", str(folder / "store"), "--catalog", str(folder / "catalog.yaml"), "--no-flow"
    )


TRAIN = ("train", "--train", "meld", "--test", "meld")


def test_every_network_trains_by_its_name_and_is_a_column(capsys: pytest.CaptureFixture, folder: Path) -> None:
    for fusion in BUILTIN:
        code, _, err = run(capsys, folder, *TRAIN, "--fusion", fusion, "--epochs", "3")
        assert code == 0, err
    store = FeatureStore.open(folder / "store", load_catalog(folder / "catalog.yaml"))
    found = store.sql("select config->>'$.training.fusion' from runs where protocol = 'train'").fetchall()
    assert {name for (name,) in found} == set(BUILTIN)


def test_settings_of_any_kind_by_set(capsys: pytest.CaptureFixture, folder: Path) -> None:
    options = ("--set", "fusion_options.hidden=4", "--set", "weight_decay=0.5", "--set", "standardize=false")
    code, out, err = run(capsys, folder, *TRAIN, "--fusion", "late", *options, "--epochs", "2", "--format", "jsonl")
    assert code == 0, err
    name = json.loads(out.splitlines()[0])["run"]
    result, _, config = load_run(folder / "store" / "runs" / "train" / name)
    assert result.weights["hidden.text.weight"].shape[0] == 4 and "scale.text.mean" not in result.weights
    assert config["training"]["weight_decay"] == 0.5 and config["training"]["fusion_options"] == {"hidden": 4}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--fusion", "latte"), "unknown fusion 'latte': did you mean 'late'?"),
        (("--set", "weight_decy=1"), "unknown training setting: did you mean 'weight_decay'?"),
        (("--set", "weight_decay"), "expected KEY=VALUE"),
        (("--set", "weight_decay=big"), "weight_decay: expected a number, found the text 'big'"),
        (("--set", "epochs=3", "--epochs", "4"), "epochs is given twice"),
        (("--fusion", "late", "--set", "fusion_options.hiden=4"), "did you mean 'hidden'?"),
        (("--fusion", "late", "--set", "fusion_options.hidden=wide"), "hidden: expected a whole number"),
        (("--fusion", "late", "--set", "fusion_options.dropout=0.5"), "expected the setting 'dropout' beside"),
        (("--set", "fusion_options.gate=sigmoid"), "expected the setting 'gate' beside"),
        (("--map", "meld=sevn"), "unknown map: did you mean 'seven'?"),
        (("--map", "melt=seven"), "did you mean 'meld'?"),
        (("--map", "meld"), "expected CORPUS=MAP"),
        (("--set", "fusion_options=[1]"), "fusion_options: expected a mapping"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    capsys: pytest.CaptureFixture, folder: Path, options: tuple[str, ...], sentence: str
) -> None:
    code, _, err = run(capsys, folder, *TRAIN, *options)
    assert code == 2 and sentence in the_sentence(err)


def test_a_network_of_ones_own_needs_no_file_of_the_house(capsys: pytest.CaptureFixture, folder: Path) -> None:
    raw = yaml.safe_load((folder / "catalog.yaml").read_text(encoding="utf-8"))
    raw["plugins"] = ["small_fusion_of_a_test"]
    raw["training"]["light"] |= {"fusion": "small_fusion_of_a_test:Small", "fusion_options": {"width": 5}, "epochs": 3}
    (folder / "own.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    (folder / "small_fusion_of_a_test.py").write_text(NETWORK, encoding="utf-8")
    options = ("--store", str(folder / "store"), "--catalog", str(folder / "own.yaml"), "--no-flow")
    code, out, err = merloco(capsys, "loco", "--corpora", "meld,afew,iemocap", "--seeds", "0", *options)
    assert code == 0, err
    runs = FeatureStore.open(folder / "store", load_catalog(folder / "own.yaml")).sql(
        "select run, config->>'$.fusion_version' from runs where config->>'$.training.fusion' like '%:Small'"
    )
    (first, version), *_ = found = runs.fetchall()
    assert len(found) == 3 and len(version) == 64
    result, _, _ = load_run(folder / "store" / "runs" / "loco" / first)
    assert result.weights["layers.0.weight"].shape[0] == 5
    code, out, err = merloco(capsys, "kinds", "--format", "jsonl", "--catalog", str(folder / "own.yaml"))
    own = [row for line in out.splitlines() if (row := json.loads(line))["name"].endswith(":Small")]
    assert [(row["what"], row["about"], row["option"]) for row in own] == [
        ("fusion", "One layer over everything.", "width")
    ]
    raw["training"]["light"]["fusion_options"] = {"wdth": 5}
    (folder / "own.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    with pytest.raises(DataError, match=r"own.yaml:\d+: unknown key 'training.light.fusion_options.wdth'.*'width'"):
        load_catalog(folder / "own.yaml")


def test_the_network_of_the_documentation_is_trained_and_compared(
    capsys: pytest.CaptureFixture, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (CATALOG.parent / "docs" / "extending.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if b.startswith("# my_fusion.py"))
    (folder / "my_fusion.py").write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    own = ("--fusion", "my_fusion:Weighted", "--set", "fusion_options.hidden=32")
    for fusion in (own, ("--fusion", "gated")):
        code, _, err = run(capsys, folder, "loco", "--corpora", "meld,afew", *fusion, "--seeds", "0,1", "--epochs", "3")
        assert code == 0, err
    options = ("--store", str(folder / "store"), "--catalog", str(folder / "catalog.yaml"), "--experiment", "loco")
    code, out, err = merloco(capsys, "compare", "fusion=my_fusion:Weighted", "fusion=gated", *options)
    assert code == 0 and "p (Holm)" in out, err


def test_methods_against_corpus_shift_in_one_table(capsys: pytest.CaptureFixture, folder: Path) -> None:
    raw = yaml.safe_load((folder / "catalog.yaml").read_text(encoding="utf-8"))
    raw["experiments"]["methods"] = {
        "protocol": "methods", "feature_sets": ["light"], "corpora": ["meld", "afew", "iemocap"], "seeds": [0, 1],
        "methods": [{}, {"standardize_by": "corpus", "transductive": True}, {"mixup": 0.4}], "training": {"epochs": 3},
    }  # fmt: skip
    (folder / "methods.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    options = ("--store", str(folder / "store"), "--catalog", str(folder / "methods.yaml"), "--no-flow")
    code, out, err = merloco(capsys, "experiment", "methods", *options)
    assert code == 0, err
    lines = {line.split("  ")[0]: line for line in out.splitlines()}
    assert {"none", "transductive, standardize_by corpus", "mixup 0.4"} <= {
        ", ".join(sorted(name.split(", "), reverse=True)) for name in lines
    }
    assert "transductive: uses the features of the left-out corpus" in out and "95 % CI" in out
    raw["experiments"]["methods"]["methods"] = [{"mixup": -1}]
    (folder / "wrong.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    with pytest.raises(DataError, match=r"wrong.yaml:\d+: experiments.methods.methods: .*0 or more"):
        load_catalog(folder / "wrong.yaml")


def test_an_experiment_is_run_as_changed(capsys: pytest.CaptureFixture, folder: Path) -> None:
    options = ("--corpora", "iemocap", "--map", "iemocap=four", "--fusion", "logistic", "--seeds", "3")
    code, _, err = run(capsys, folder, "experiment", "single", *options, "--modalities", "text,audio")
    assert code == 0, err
    store = FeatureStore.open(folder / "store", load_catalog(folder / "catalog.yaml"))
    rows = store.sql("select train, seed, config->>'$.label_maps.iemocap.map', config->>'$.modalities' from runs "
                     "where experiment = 'single'").fetchall()  # fmt: skip
    assert rows == [(["iemocap"], 3, "four", '["audio","text"]')] * 2  # plain and balanced
    code, _, err = run(capsys, folder, "experiment", "loco", "--corpora", "iemocap")
    assert code == 1 and "two corpora or more" in the_sentence(err)


def test_python_takes_the_same_settings(folder: Path) -> None:
    store = Store.open(folder / "store", load_catalog(folder / "catalog.yaml"))
    table = store.loco(["meld", "afew"], seeds=[0], modalities=["text"], fusion="logistic")
    assert set(table["modalities"].to_pylist()) == {"text"}
    with pytest.raises(UsageError, match="epochs: expected a whole number, found the text 'five'"):
        store.train(["meld"], ["meld"], epochs="five")


def test_a_run_of_an_earlier_version_keeps_its_name() -> None:
    training = Training().model_dump()
    earlier = {name: value for name, value in training.items() if name in FIRST_SETTINGS}
    assert len(earlier) == len(FIRST_SETTINGS)
    config = {"protocol": "loco", "test": ["meld"], "seed": 0, "experiment": "loco", "feature_set": "light"}
    before, after = {**config, "training": earlier}, {**config, "training": training}
    assert run_name(before) == run_name(after) and run_identity(before) == run_identity(after)
    other = {**config, "training": {**training, "fusion": "late"}}
    assert run_name(other) != run_name(after) and run_identity(other) != run_identity(after)
