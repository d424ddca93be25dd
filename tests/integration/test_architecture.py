"""The house: imports run one way and in no circle, packages are installed as they lie, names collide with nobody's."""

import ast
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

WORKSPACE = Path(__file__).parents[2]
PACKAGES = ("pipelines", "features", "models", "flows")
MAY_IMPORT = {
    "pipelines": {"pipelines"},
    "features": {
        *("features", "pipelines", "models.errors", "models.encoders.base"),
        *("models.fusion.dataset", "models.fusion.networks.base"),
    },
    "models": {"models"},
    "flows": set(PACKAGES),
}
MUST_NOT_IMPORT = {
    "pipelines": {"torch", "transformers", "prefect"},
    "features": {"prefect"},
    "models": {"prefect"},
    "flows": set(),
}


def module_name(path: Path) -> str:
    """`models/fusion/trainer.py` -> `merloco.models.fusion.trainer`."""
    return ".".join(("merloco", *path.relative_to(WORKSPACE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_name(path): path for package in PACKAGES for path in sorted((WORKSPACE / package).rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports: at the top, inside a function or for type checkers only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= inside or {node.module}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_line(package: str) -> None:
    allowed = {f"merloco.{name}" for name in MAY_IMPORT[package]}
    for path in sorted((WORKSPACE / package).rglob("*.py")):
        for module in imports_of(path):
            first, *_ = module.split(".")
            inside = any(module == name or module.startswith(f"{name}.") for name in allowed)
            assert first != "merloco" or inside, f"{path} imports {module}"
            assert first not in MUST_NOT_IMPORT[package], f"{path} imports {module}"
            assert first not in PACKAGES, f"{path} imports {module}: expected merloco.{module}"


def test_no_modules_import_each_other() -> None:
    graph = {module: (imports_of(path) & MODULES.keys()) - {module} for module, path in MODULES.items()}
    assert set(TopologicalSorter(graph).static_order()) == MODULES.keys()  # CycleError names the circle


def test_every_package_is_installed() -> None:
    settings = tomllib.loads((WORKSPACE / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert sorted(settings["packages"]) == sorted(
        module for module, path in MODULES.items() if path.name == "__init__.py"
    )
    assert settings["package-dir"] == {f"merloco.{package}": package for package in PACKAGES}


def test_files_beside_the_modules_are_installed() -> None:
    settings = tomllib.loads((WORKSPACE / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    for module, path in MODULES.items():
        if path.name == "__init__.py":
            patterns = settings["package-data"].get(module, [])
            beside = [p for p in path.parent.iterdir() if p.is_file() and p.suffix not in (".py", ".pyc", ".md")]
            assert all(any(p.match(pattern) for pattern in patterns) for p in beside), module


def test_folders_of_deployments_hide_no_module_of_python() -> None:
    """Prefect puts the folder of an entrypoint on the path of its process and of all that this one starts."""
    deployments = yaml.safe_load((WORKSPACE / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    for deployment in deployments:
        folder = (WORKSPACE / deployment["entrypoint"].partition(":")[0]).parent
        assert not {path.stem for path in folder.iterdir()} & sys.stdlib_module_names, folder


def test_a_folder_holds_about_a_dozen_modules() -> None:
    for folder in {path.parent for path in MODULES.values()}:
        assert len(list(folder.glob("*.py"))) <= 17, folder


@pytest.mark.parametrize(
    "module",
    [
        "merloco.pipelines.samples.ingest",
        "merloco.pipelines.corpora.base",
        "merloco.features.store",
        "merloco.features.query.sql",
        "merloco.flows.cli.app",
    ],
)
def test_asking_needs_neither_prefect_nor_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'prefect', 'torch', 'transformers'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=WORKSPACE)
    assert done.stdout.strip() == "[]"


def test_a_script_may_lie_beside_modules_of_the_same_names(tmp_path: Path) -> None:
    """A researcher's own `models/` and `features.py` stay hers."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("NAME = 'mine'\n")
    (tmp_path / "features.py").write_text("NAME = 'mine too'\n")
    (tmp_path / "script.py").write_text(
        "import features, models\nfrom merloco.features.store import FeatureStore\n"
        "import merloco.pipelines.media.worker\nprint(models.NAME, features.NAME, FeatureStore.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60
    )
    assert done.stdout.strip() == "mine mine too FeatureStore"
