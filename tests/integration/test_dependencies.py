"""What the code imports is declared in pyproject.toml, and what only an extra brings is known to the command line."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from merloco.flows.cli.app import EXTRAS

WORKSPACE = Path(__file__).parents[2]
PROJECT = tomllib.loads((WORKSPACE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS = packages_distributions()
OURS = {"merloco", "tests"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    """Names of distributions, without those of our own extras."""
    return {canonical(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in requirements} - OURS


BASE = declared(PROJECT["dependencies"])
BY_EXTRA = {extra: declared(names) for extra, names in PROJECT["optional-dependencies"].items()}


def imported(*folders: str) -> dict[str, list[str]]:
    """Module of another project -> the places that import it: at the top, inside a function or for types only."""
    found: dict[str, list[str]] = {}
    for path in sorted(path for folder in folders for path in (WORKSPACE / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OURS:
                found.setdefault(name, []).append(f"{path.relative_to(WORKSPACE)}:{node.lineno}")
    return found


def distributions_of(module: str) -> set[str]:
    """What brings a module; one that is not installed here has the name of its module."""
    return {canonical(name) for name in DISTRIBUTIONS.get(module, [module])}


SOURCE = imported("pipelines", "features", "models", "flows")


@pytest.mark.parametrize("module", sorted(SOURCE))
def test_what_the_code_imports_is_declared(module: str) -> None:
    known = BASE.union(*(names for extra, names in BY_EXTRA.items() if extra != "dev"))
    assert distributions_of(module) & known, f"{SOURCE[module]} import {module!r}, which pyproject.toml does not name"


def test_what_the_tests_import_is_declared() -> None:
    known = BASE.union(*BY_EXTRA.values())
    assert not {m: places for m, places in imported("tests").items() if not distributions_of(m) & known}


def test_a_module_that_an_extra_brings_is_one_sentence_with_that_extra_where_it_is_missing() -> None:
    """The packages that install without their dependencies have sentences of their own, beside what needs them."""
    optional = {m for m in SOURCE if not distributions_of(m) & (BASE | BY_EXTRA["no-deps"])}
    assert optional <= EXTRAS.keys()
    for module, extra in EXTRAS.items():
        brought = distributions_of(module) & BY_EXTRA[extra]
        assert brought or module not in DISTRIBUTIONS, f"the extra {extra!r} does not bring {module!r}"


def test_the_makefile_installs_without_dependencies_what_the_extra_names() -> None:
    (names,) = re.findall(r"^NO_DEPS := (.+)$", (WORKSPACE / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {canonical(name) for name in names.split()} == BY_EXTRA["no-deps"]


def test_all_extras_are_those_that_commands_need() -> None:
    """Clusters, tools of development and what cannot be resolved are asked for by name: a set-up stays small."""
    (everything,) = PROJECT["optional-dependencies"]["all"]
    apart = {"all", "dask", "dev", "no-deps", "ray"}
    assert set(re.findall(r"[\w-]+", everything.partition("[")[2])) == BY_EXTRA.keys() - apart


def test_constraints_fix_the_version_of_everything_that_is_declared() -> None:
    lines = (WORKSPACE / "constraints.txt").read_text(encoding="utf-8").split()
    assert BASE.union(*BY_EXTRA.values()) <= {canonical(line.partition("==")[0]) for line in lines}
