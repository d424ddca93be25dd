"""The command line, run in this process."""

import sys
from pathlib import Path

import pytest

from merloco.flows.cli import app as cli

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"


ROW = '1,"Oh, hello there.",Ann,{emotion},positive,0,0,1,1,"00:00:01,000","00:00:02,500"'


def merloco(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process; returns exit code, standard output, standard error."""
    argv, sys.argv = sys.argv, ["merloco", *arguments]
    try:
        cli.main()
        code: int | str | None = 0
    except SystemExit as exit_:
        code = exit_.code
    finally:
        sys.argv = argv
    captured = capsys.readouterr()
    return int(code or 0), captured.out, captured.err


def meld_root(folder: Path, header: str = HEADER, emotion: str = "joy") -> Path:
    folder.mkdir(parents=True)
    for name in ("train", "dev", "test"):
        (folder / f"{name}_sent_emo.csv").write_text(f"{header}\n{ROW.format(emotion=emotion)}\n", encoding="utf-8")
    return folder


def the_sentence(err: str) -> str:
    """The error line: exactly one, and nothing that looks like a traceback."""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    return lines[0]
