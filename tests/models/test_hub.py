"""Hub models: downloaded once, pinned, and then left alone; against a real server on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.hub_server import serve_hub
from tests.helpers.tiny_models import save_roberta

pytestmark = pytest.mark.slow

WORKSPACE = Path(__file__).parents[2]
COMMIT = "d" * 40
CODE = """
import json
from merloco.models.encoders.base import EncoderSpec, registered
kind = registered("hf_text")
spec = EncoderSpec("hf_text", hub_id="merloco-tests/roberta")
identity = kind.identity(spec)
print(json.dumps([identity, kind.build(spec, "cpu").encode(["hello"])[0].vectors.shape]))
"""


def run(cache: Path, address: str, offline: bool = False) -> subprocess.CompletedProcess[str]:
    """Identity and vectors of a hub model in a process of its own: the hub's library reads its settings on import."""
    settings = {"HF_ENDPOINT": address, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1" if offline else "0"}
    return subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        cwd=WORKSPACE,
        env={**os.environ, **settings, "HF_HUB_DISABLE_TELEMETRY": "1"},
    )


def test_hub_model_is_downloaded_once_pinned_and_then_needs_no_hub(tmp_path: Path) -> None:
    folder, cache = save_roberta(tmp_path / "model"), tmp_path / "cache"
    (folder / "pytorch_model.bin").write_bytes(b"the same weights in another format")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.safetensors").write_bytes(b"the same weights for another engine")
    (folder / "own_code.py").write_text("raise SystemExit")
    with serve_hub("merloco-tests/roberta", COMMIT, folder) as (address, asked):
        first = run(cache, address)
        assert first.returncode == 0, first.stderr
        identity, shape = json.loads(first.stdout)
        assert (identity["hub_id"], identity["revision"], shape) == ("merloco-tests/roberta", COMMIT, [1, 32])
    got = sorted(path.name for path in (cache / "models--merloco-tests--roberta" / "snapshots" / COMMIT).rglob("*"))
    assert got == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    asked.clear()
    again = run(cache, address, offline=True)
    assert again.returncode == 0, again.stderr
    assert (json.loads(again.stdout), asked) == ([identity, shape], [])


@pytest.mark.parametrize("moved_on", ["e" * 40])
def test_cached_revision_stands_although_the_hub_has_moved_on(moved_on: str, tmp_path: Path) -> None:
    folder, cache = save_roberta(tmp_path / "model"), tmp_path / "cache"
    for commit in (COMMIT, moved_on):
        with serve_hub("merloco-tests/roberta", commit, folder) as (address, _):
            done = run(cache, address)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)[0]["revision"] == COMMIT
