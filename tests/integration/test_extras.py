"""What only some commands need is an extra: a missing package is one sentence with the command that installs it."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from merloco.flows.cli.app import EXTRAS
from tests.helpers.command_line import meld_root
from tests.helpers.store_files import CATALOG, make_store

WORKSPACE = Path(__file__).parents[2]
SETTINGS = tomllib.loads((WORKSPACE / "pyproject.toml").read_text(encoding="utf-8"))["project"]


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


def test_every_optional_module_is_named_with_the_extra_that_brings_it() -> None:
    distributions = packages_distributions()
    for module, extra in EXTRAS.items():
        required = {re.split(r"[\[<>=]", name)[0].lower() for name in SETTINGS["optional-dependencies"][extra]}
        names = {name.lower() for name in distributions.get(module, ())}
        assert not names or names & required or module == "jinja2", (module, extra)
