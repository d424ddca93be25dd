"""Pages of the documentation, run as a reader types them.

Blocks of a page, in its order:

- `console`: after `$ ` (and `> ` for its further lines) a command, then what it prints. `merloco`, `python FILE`, `cd`
  and `export` are known; commands that build run without Prefect, whose start takes longer than all of a page.
- `python` and `yaml` whose first line is `# NAME.EXT`, or `# add to NAME.EXT`: a file.
- any other `python`: a session, the same one in all of a page; a `text` block after it is what it prints.

In what is printed `...` stands for anything. Numbers with a decimal point may differ by a little, because arithmetic
differs between processors, and by anything in tables of trained networks.
"""

import math
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.helpers.command_line import merloco

BUILDS = ("ingest", "extract")
TRAINS = ("train", "loco", "experiment", "compare")
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (add to )?([\w-]+\.\w+)\n")
_DECIMAL = re.compile(r"\d+\\\.\d+")  # as `re.escape` writes it


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    line: int


class Command(NamedTuple):
    """A command of a console block, and what the page says that it prints."""

    words: list[str]
    shown: str


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        yield Block(match[1], match[2], text.count("\n", 0, match.start()) + 1)


def commands_of(block: Block) -> Iterator[Command]:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        first, *rest = part.splitlines()
        while rest and rest[0].startswith("> "):
            first += "\n" + rest.pop(0).removeprefix("> ")
        yield Command(shlex.split(first), "\n".join(rest))


class PageRun:
    """A reader's folder and session while she goes through pages."""

    def __init__(
        self,
        capsys: pytest.CaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
        instead: Mapping[str, Callable[[], object]] = MappingProxyType({}),
    ) -> None:
        """Begin in the current folder.

        Args:
            capsys: Of the test.
            monkeypatch: Of the test: folder, environment and imports are restored after it.
            instead: Command as typed -> what the test does in its place; nothing that it prints is compared.
        """
        self.capsys, self.monkeypatch, self.instead = capsys, monkeypatch, instead
        monkeypatch.setattr(sys, "path", [*sys.path])

    def go_through(self, page: Path) -> dict[str, Any]:
        """Run every block of a page; returns the variables of its Python session."""
        session: dict[str, Any] = {}
        printed, exact = "", True
        for block in blocks_of(page):
            where = f"{page.name}:{block.line}"
            file = _FILE.match(block.text)
            if file:
                with open(file[2], "a" if file[1] else "w", encoding="utf-8") as target:
                    target.write(f"\n{block.text[file.end() :]}" if file[1] else block.text)
            elif block.language == "console":
                for command in commands_of(block):
                    self._run(command, where)
            elif block.language == "python":
                exec(compile(block.text, where, "exec"), session)
                printed = self.capsys.readouterr().out
                exact = not any(f".{name}(" in block.text for name in TRAINS)
            elif block.language == "text":
                assert_shown(printed, block.text, where, exact)
            else:
                raise AssertionError(f"{where}: nothing runs a block of {block.language}")
        return session

    def _run(self, command: Command, where: str) -> None:
        program, *arguments = command.words
        if shlex.join(command.words) in self.instead:
            self.instead[shlex.join(command.words)]()
        elif program == "cd":
            self.monkeypatch.chdir(arguments[0])
        elif program == "export":
            self.monkeypatch.setenv(*arguments[0].split("=", 1))
        elif program == "python":
            runpy.run_path(arguments[0], run_name="__main__")
        else:
            assert program == "merloco", f"{where}: nothing runs {program!r}"
            code, out, err = merloco(self.capsys, *arguments, *(["--no-flow"] if arguments[0] in BUILDS else []))
            assert code == 0, f"{where}: {err}"
            assert_shown(out, command.shown, where, exact=arguments[0] not in TRAINS)


def assert_shown(printed: str, shown: str, where: str, exact: bool = True) -> None:
    """Compare what was printed with what a page shows; nothing shown stands for anything.

    Args:
        printed: Standard output.
        shown: Of the page.
        where: For the message.
        exact: Whether numbers with a decimal point have to be close.
    """
    expected, lines = (list(filter(None, map(_spaced, text.splitlines()))) for text in (shown, printed))
    if not expected:
        return
    assert len(expected) == len(lines), f"{where}: the page shows {len(expected)} lines, printed were\n{printed}"
    for ours, line in zip(expected, lines, strict=True):
        pattern = _DECIMAL.sub(r"(\\d+\\.\\d+)", re.escape(ours)).replace(r"\.\.\.", ".*")
        match = re.fullmatch(pattern, line)
        assert match, f"{where}: the page shows\n{ours}\nprinted was\n{line}\nin\n{printed}"
        pairs = zip(re.findall(r"\d+\.\d+", ours), match.groups(), strict=True)
        close = all(math.isclose(float(a), float(b), rel_tol=0.15, abs_tol=0.05) for a, b in pairs)
        assert close or not exact, f"{where}: the page shows\n{ours}\nprinted was\n{line}"


def _spaced(line: str) -> str:
    """A line with one space between columns, whose width follows the numbers; the rule of a table is none."""
    return "" if set(line) <= {"-", " "} else " ".join(line.split())
