"""The report in a real browser: every figure is drawn, no script fails, nothing is asked of the network."""

import shutil
import subprocess
from pathlib import Path

import pytest

from merloco.flows.report.write import write_report
from tests.helpers.report_files import Document
from tests.helpers.report_store import predicted, store_with_nasty_texts
from tests.helpers.run_files import make_run

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium on PATH (looked for {', '.join(NAMES)})")
def test_every_figure_is_drawn_without_an_error(tmp_path: Path) -> None:
    store = store_with_nasty_texts(tmp_path / "store")
    for seed in range(2):
        make_run(store.root, {"meld": predicted(seed), "afew": predicted(seed, 0.4, 40, "afew")}, seed=seed)
    path = tmp_path / "report.html"
    write_report(store, "mine", path)
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=60000", "--enable-logging=stderr"]
    done = subprocess.run([*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=300)
    messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert done.returncode == 0 and messages == []
    written, shown = Document(path.read_text(encoding="utf-8")), Document(done.stdout)
    assert shown.title == written.title == "Emotion recognition: experiment mine"
    assert len(written.figures) == 10
    assert len(shown.drawn) >= len(written.figures), "each figure has plotly's drawing layers"
    assert shown.tags.count("svg") > 2 * len(written.figures) and shown.tags.count("path") > 200
    assert "img" not in shown.tags and not [r for r in shown.references if r.startswith(("http", "//"))]
    assert shown.tables == written.tables
