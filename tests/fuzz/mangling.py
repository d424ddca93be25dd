"""How files are damaged: as editors, spreadsheets, scripts and disks damage them."""

from __future__ import annotations

import random
from typing import Any

import yaml

JUNK = (
    '"',
    "''",
    "\x00",
    ";",
    "\t",
    ",",
    "\r",
    "NaN",
    "-1",
    "1e9",
    "é",
    "\u2028",
    "=1+1",
    "#NAME?",
    "00:99:99,9",
    "1.0",
)
VALUES = (True, False, None, 10, -1, 0.5, "010", "yes", "", [], {}, ["a", 1], {"a": {"b": {"c": [1]}}}, "2020-01-01")
RAW_VALUES = (
    "yes",
    "no",
    "010",
    "0o17",
    "2020-01-01",
    "~",
    "1e3",
    ".inf",
    ".nan",
    "[a, b",
    "{a: 1}",
    "!!python/name:os",
    "&x *x",
)


def mangled_table(content: bytes, generator: random.Random) -> bytes:
    """A text file with one to three things wrong."""
    for _ in range(generator.randint(1, 3)):
        content = generator.choice(TABLE_DAMAGES)(content, generator)
    return content


def _flip(content: bytes, generator: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(generator.randint(1, 6)):
        if data:
            data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    return bytes(data)


def _cut(content: bytes, generator: random.Random) -> bytes:
    return content[: generator.randint(0, len(content))]


def _drop_bytes(content: bytes, generator: random.Random) -> bytes:
    start = generator.randint(0, len(content))
    return content[:start] + content[start + generator.randint(1, 40) :]


def _insert(content: bytes, generator: random.Random) -> bytes:
    start = generator.randint(0, len(content))
    return content[:start] + generator.choice(JUNK).encode() + content[start:]


def _delimiter(content: bytes, generator: random.Random) -> bytes:
    return content.replace(b",", generator.choice((b";", b"\t", b"|", b" ", b",,")))


def _some_delimiters(content: bytes, generator: random.Random) -> bytes:
    return b"".join(b";" if char == b"," and generator.random() < 0.1 else char for char in _chars(content))


def _chars(content: bytes) -> list[bytes]:
    return [content[i : i + 1] for i in range(len(content))]


def _lines(content: bytes, generator: random.Random) -> bytes:
    lines = content.split(b"\n")
    at = generator.randrange(len(lines))
    what = generator.randrange(5)
    if what == 0:
        lines.insert(at, lines[at])
    elif what == 1:
        del lines[at]
    elif what == 2:
        lines.insert(at, generator.choice((b"", b"   ", b",,,,", b"sep=,", b"title")))
    elif what == 3:
        generator.shuffle(lines)
    else:
        lines[at] = b"".join(generator.sample(_chars(lines[at]), len(lines[at])))
    return b"\n".join(lines)


def _columns(content: bytes, generator: random.Random) -> bytes:
    """Exchange, drop or double a column, split at every comma as a naive script does."""
    rows = [line.split(b",") for line in content.split(b"\n")]
    a, b = generator.randrange(len(rows[0])), generator.randrange(len(rows[0]))
    what = generator.randrange(3)
    for cells in rows:
        if max(a, b) < len(cells):
            if what == 0:
                cells[a], cells[b] = cells[b], cells[a]
            elif what == 1:
                del cells[a]
            else:
                cells.insert(b, cells[a])
    return b"\n".join(b",".join(cells) for cells in rows)


def _cell(content: bytes, generator: random.Random) -> bytes:
    rows = [line.split(b",") for line in content.split(b"\n")]
    cells = generator.choice(rows)
    cells[generator.randrange(len(cells))] = generator.choice(JUNK).encode()
    return b"\n".join(b",".join(cells) for cells in rows)


def _encoding(content: bytes, generator: random.Random) -> bytes:
    text = content.decode("utf-8", errors="replace")
    return text.encode(
        generator.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "cp1252", "utf-32")), errors="replace"
    )


def _ends(content: bytes, generator: random.Random) -> bytes:
    return content.replace(b"\r\n", b"\n").replace(
        b"\n", generator.choice((b"\r", b"\r\n", b"\r\r\n", b"\n\n", b"\x0b"))
    )


def _case(content: bytes, generator: random.Random) -> bytes:
    return generator.choice((content.upper, content.lower, content.swapcase))()


TABLE_DAMAGES = (
    *(_flip, _cut, _drop_bytes, _insert, _insert, _delimiter, _some_delimiters, _lines, _lines, _columns, _cell, _cell),
    *(_encoding, _ends, _case),
)


def mangled_names(paths: list[str], generator: random.Random) -> list[str]:
    """Paths of which some are renamed, moved or doubled."""
    found = []
    for path in paths:
        if generator.random() < 0.3:
            stem, ending = path.rsplit(".", 1)
            path = generator.choice(
                (
                    path.upper(),
                    path.lower(),
                    f"{stem}.mkv",
                    f"{stem}.AVI",
                    f"{stem} (1).{ending}",
                    f"up/{path}",
                    f"{stem}.txt",
                )
            )
        found.append(path)
    return found


def mangled_catalog(catalog: dict[str, Any], generator: random.Random) -> str:
    """A catalog as YAML with one to three things wrong."""
    copy = yaml.safe_load(yaml.safe_dump(catalog))
    for _ in range(generator.randint(1, 3)):
        _spoil(copy, generator)
    text = yaml.safe_dump(copy, sort_keys=False)
    if generator.random() < 0.5:
        lines = text.split("\n")
        at = generator.randrange(len(lines))
        key = lines[at].partition(":")[0]
        lines[at] = generator.choice(
            (f"{key}: {generator.choice(RAW_VALUES)}", lines[at][1:], lines[at] * 2, f"\t{lines[at]}")
        )
        text = "\n".join(lines)
    return text


def _spoil(node: Any, generator: random.Random) -> None:
    """Drop, rename or replace one key somewhere below a mapping."""
    while True:
        key = generator.choice(list(node)) if isinstance(node, dict) and node else None
        if key is None:
            return
        if isinstance(node[key], dict) and node[key] and generator.random() < 0.75:
            node = node[key]
            continue
        what = generator.randrange(4)
        value = node.pop(key)
        if what == 1:
            node[f"{key}x"] = value
        elif what == 2:
            node[key] = generator.choice(VALUES)
        elif what == 3:
            node[generator.choice((True, None, 10, 0.5, "no", ""))] = value
        return
