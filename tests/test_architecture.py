"""The direction of dependence is a line: flows -> features -> pipelines, flows -> models."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

WORKSPACE = Path(__file__).parent.parent
HOUSE = {"pipelines", "features", "models", "flows"}
MAY_IMPORT = {
    "pipelines": {"pipelines"},
    "features": {"features", "pipelines", "models.encoders"},
    "models": {"models"},
    "flows": HOUSE,
}
MUST_NOT_IMPORT = {
    "pipelines": {"torch", "transformers", "prefect"},
    "features": {"prefect"},
    "models": {"prefect"},
    "flows": set(),
}


def imports_of(path: Path) -> list[str]:
    """Every module that a file imports, at the top or inside a function."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found


@pytest.mark.parametrize("package", sorted(HOUSE))
def test_imports_follow_the_line(package: str) -> None:
    allowed, forbidden = MAY_IMPORT[package], MUST_NOT_IMPORT[package]
    for path in sorted((WORKSPACE / package).rglob("*.py")):
        for module in imports_of(path):
            first = module.split(".")[0]
            inside = any(module == name or module.startswith(f"{name}.") for name in allowed)
            assert first not in HOUSE or inside, f"{path.name} imports {module}"
            assert first not in forbidden, f"{path.name} imports {module}"


@pytest.mark.parametrize("module", ["pipelines.samples", "pipelines.corpora", "features.store", "features.sql"])
def test_asking_needs_neither_prefect_nor_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'prefect', 'torch', 'transformers'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=WORKSPACE)
    assert done.stdout.strip() == "[]"


def test_help_loads_neither_prefect_nor_torch() -> None:
    code = "import sys, flows.cli; print(sorted({'prefect', 'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=WORKSPACE)
    assert done.stdout.strip() == "[]"
