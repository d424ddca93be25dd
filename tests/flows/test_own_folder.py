"""A researcher's own folder: made by init, used with nothing but the installed wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from merloco.features.catalog import load_catalog
from tests.helpers.command_line import HEADER, ROW, merloco, the_sentence
from tests.helpers.store_files import CATALOG

WORKSPACE = CATALOG.parent
SETUPTOOLS = int(metadata.version("setuptools").partition(".")[0])


def test_init_makes_a_folder_that_loads_and_writes_nothing_over(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = merloco(capsys, "init", "study")
    assert code == 0 and sorted(os.listdir("study")) == [".gitignore", "catalog.yaml", "my_plugin.py"]
    assert "cd study && merloco kinds" in out
    code, _, err = merloco(capsys, "init", "study")
    assert code == 1 and "'study/catalog.yaml' is there already: nothing was written" in the_sentence(err)
    Path("other").mkdir()
    Path("other/my_plugin.py").write_text("mine")
    assert merloco(capsys, "init", "other")[0] == 1
    assert os.listdir("other") == ["my_plugin.py"] and Path("other/my_plugin.py").read_text() == "mine"


def test_the_version_and_short_help_of_every_command(capsys: pytest.CaptureFixture) -> None:
    assert merloco(capsys, "--version") == (0, f"merloco {metadata.version('merloco')}\n", "")
    for words in ((), ("sql",), ("check", "samples"), ("labels", "show"), ("init",)):
        code, out, _ = merloco(capsys, *words, "-h")
        assert code == 0 and "Usage:" in out
    assert "--install-completion" in merloco(capsys, "-h")[1]


def test_kinds_needs_no_catalog(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MERLOCO_CATALOG", raising=False)
    assert "iemocap" in merloco(capsys, "kinds")[1]


@pytest.mark.slow
@pytest.mark.skipif(SETUPTOOLS < 77, reason="the wheel is built by setuptools 77 or later")
def test_the_wheel_alone_ingests_extracts_with_the_plugin_and_answers(tmp_path: Path) -> None:
    """Beside a folder `models/` and a file `features.py` that have nothing to do with merloco."""
    source = shutil.copytree(
        WORKSPACE, tmp_path / "source", symlinks=True, ignore=shutil.ignore_patterns(".*", "tests", "docs", "build")
    )
    pip = ["-m", "pip", "-q", "wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([sys.executable, *pip, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site, work = tmp_path / "site", tmp_path / "work"
    zipfile.ZipFile(wheel).extractall(site)
    assert (site / "merloco" / "pipelines" / "catalog" / "builtin.yaml").read_bytes() == CATALOG.read_bytes()
    (work / "models").mkdir(parents=True)
    (work / "features.py").write_text("raise SystemExit('not the module that was meant')\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MERLOCO_")} | {"PYTHONPATH": str(site)}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "merloco.flows.cli.app", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=work, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("init")
    release = work / "MELD"
    for name, clips in (
        ("train", "train_splits"),
        ("dev", "dev_splits_complete"),
        ("test", "output_repeated_splits_test"),
    ):
        (release / clips).mkdir(parents=True)
        (release / f"{name}_sent_emo.csv").write_text(f"{HEADER}\n{ROW.format(emotion='joy')}\n", encoding="utf-8")
        wave = np.random.default_rng(0).normal(0, 0.1, 24000).astype(np.float32)
        sf.write(release / clips / "dia0_utt0.wav", wave, 16000)
        (release / clips / "dia0_utt0.wav").rename(release / clips / "dia0_utt0.mp4")
    run("ingest", "meld", "--root", "meld=MELD", "--no-flow")
    run("extract", "--features", "mine", "--modalities", "audio", "--no-flow")
    answer = run("sql", "select count(pooled) as n, len(any_value(pooled)) as width from loudness", "--format", "csv")
    assert answer.split() == ["n,width", "3,16"]
    shutil.move(work / "store", tmp_path / "moved")
    moved = run("sql", "select count(*) as n from loudness", "--format", "csv", "--store", str(tmp_path / "moved"))
    assert moved.split() == ["n", "3"]


def test_the_catalog_of_init_extends_the_shipped_one(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    merloco(capsys, "init")
    own, shipped = load_catalog("catalog.yaml"), load_catalog(CATALOG)
    assert own.corpora == shipped.corpora and own.views.keys() - shipped.views.keys() == {"loudness"}
