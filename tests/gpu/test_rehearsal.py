"""The GPU run on a CPU with tiny sizes, and what its parts may import: a GPU machine may have nothing else."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

WORKSPACE = Path(__file__).parents[2]
RUN = WORKSPACE / "tests" / "gpu" / "run.sh"
BLOCKED = (
    "PIL", "av", "cv2", "decord", "duckdb", "facenet_pytorch", "h5py", "pandas", "prefect", "pyarrow", "pydantic",
    "retinaface", "skimage", "soundfile", "soxr", "torchaudio", "torchvision", "typer", "webdataset",
)  # fmt: skip
"""Packages of merloco that `correct`, `train` and `encode` do without."""
SITE = f"""
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec


def without(cls, name, path=None, target=None):
    return None if name.partition(".")[0] in {BLOCKED!r} else find_spec(name, path, target)


PathFinder.find_spec = classmethod(without)
"""
"""Python imports it at its start from PYTHONPATH: the packages are as if they were not installed."""


def run(out: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script from another folder."""
    return subprocess.run(
        [str(RUN), *arguments],
        cwd=out.parent,
        env={**os.environ, "OUT": str(out), "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_three_parts_run_with_torch_numpy_scipy_scikit_learn_and_transformers(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE)
    done = run(tmp_path / "out", "correct", "train", "encode", "--size", "tiny", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    reports = {p.stem: json.loads(p.read_text()) for p in (tmp_path / "out").glob("*.json")}
    assert reports.keys() == {"correct", "train", "encode"}
    assert all(check["fine"] for check in reports["correct"]["checks"])
    assert [sweep["precision"] for sweep in reports["train"]["sweeps"] if sweep["whole"]] == ["float32", "bf16"]
    assert "aten::" in (tmp_path / "out" / "train_profile.txt").read_text()
    rates = {row["encoder"]: row for row in reports["encode"]["rates"]}
    assert "no retinaface" in rates["retinaface"]["precision"]
    assert all(row["network"] > 0 for name, row in rates.items() if name != "retinaface")


@pytest.mark.slow
def test_extraction_runs_end_to_end(tmp_path: Path) -> None:
    done = run(tmp_path / "out", "extract", "--size", "tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "out" / "extract.json").read_text())
    assert report["device"] == "cpu" and report["encoders_alone"]["clips_per_second"] > 0
    assert [(row["readers"], row["clips"]) for row in report["extractions"]] == [(2, 2)]
    assert all(row["clips_per_second"] > 0 for row in report["extractions"])


def test_a_part_that_fails_is_named_and_does_not_stop_the_others(tmp_path: Path) -> None:
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\necho "$2"\ntest "$2" != tests.gpu.train\n')
    stub.chmod(0o755)
    done = run(tmp_path / "out", PYTHON=str(stub))
    named = [line for line in done.stdout.splitlines() if line.startswith("tests.gpu.")]
    assert named == [f"tests.gpu.{part}" for part in ("correct", "train", "encode", "extract")]
    assert done.returncode == 1 and done.stderr == "failed: train\n"


def test_a_part_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\nexec sleep 60\n")
    stub.chmod(0o755)
    done = run(tmp_path / "out", "encode", PYTHON=str(stub), LIMIT="1")
    assert done.returncode == 1 and done.stderr.splitlines() == ["encode: stopped after 1 s", "failed: encode"]


@pytest.mark.parametrize("arguments", [("decode",), ("train", "--size", "huge"), ("--size",)])
def test_an_unknown_part_or_size_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path / "out", *arguments)
    assert done.returncode == 2 and done.stdout == "" and "expected" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_wheels_have_the_versions_that_are_tested() -> None:
    script = (RUN.parent / "wheels.sh").read_text()
    (names,) = re.findall(r"packages=\$\{PACKAGES:-([^}]+)\}", script)
    pinned = {line.partition("==")[0].lower() for line in (WORKSPACE / "constraints.txt").read_text().splitlines()}
    assert len(names.split()) > 10 and set(names.split()) <= pinned


@pytest.mark.slow
def test_no_module_of_models_needs_an_optional_package_to_be_imported(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE)
    files = sorted((WORKSPACE / "models").rglob("*.py"))
    names = [".".join(("merloco", *p.relative_to(WORKSPACE).with_suffix("").parts)) for p in files]
    code = f"import importlib\nfor name in {names!r}: importlib.import_module(name.removesuffix('.__init__'))"
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=WORKSPACE,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
