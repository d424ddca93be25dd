"""A catalog file as plain values with the lines they stand on, by the core schema of YAML 1.2.

PyYAML reads YAML 1.1, in which `no` is false, `1:30` is 90 and `010` is 8. Here a number is a number, `true` and
`false` are the only truth values, everything else is text, and every key is text as it is written: `no`, `null` and `1`
are names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from merloco.pipelines.errors import DataError

MAX_VALUES = 100_000
"""More than a catalog has: an alias of aliases of aliases is a small file with a billion values."""
_CORE = "tag:yaml.org,2002:"
_LEADING_ZERO = re.compile(r"[-+]?0+([0-9].*)")
_TRUE = frozenset({"true", "True", "TRUE"})


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml is ten times as fast
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.nan|\.NaN|\.NAN", list("-+.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"{_CORE}{_tag}", re.compile(f"(?:{_pattern})$"), _first)


@dataclass(frozen=True, slots=True)
class Document:
    """The values of a file: mappings, tuples, text, numbers, truth values and None."""

    value: Any
    _root: yaml.Node | None

    def place(self, location: Sequence[int | str]) -> tuple[int, int]:
        """How many steps of a location the file has, and the line of the value there."""
        node, line, depth = self._root, 1, 0
        for part in location:
            if isinstance(node, yaml.MappingNode):
                pair = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                pair = (node.value[part], node.value[part])
            else:
                pair = None
            if pair is None:
                break
            line, node, depth = pair[0].start_mark.line + 1, pair[1], depth + 1
        return depth, line


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader above would not read as text."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        """Write a value that is there twice out twice."""
        return True


_Dumper.add_representer(tuple, yaml.SafeDumper.represent_list)


def document_text(value: Any) -> str:
    """The text of a file that `read_document` reads as this value."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120))


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        DataError: It is no YAML, or says what no catalog can mean; the sentence names the line.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
        return Document(None if root is None else _Builder(path).build(root), root)
    except UnicodeDecodeError:
        raise DataError(f"{path}: broken YAML: not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        raise DataError(f"{where}: broken YAML: {problem}") from None
    except RecursionError:
        raise DataError(f"{path}: lists or mappings within each other, too deep for a catalog") from None


def read_value(text: str) -> Any:
    """One value as a catalog would have it, for example of a command line.

    Raises:
        DataError: It is no YAML.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
        return None if root is None else _Builder(Path()).build(root)
    except (yaml.YAMLError, RecursionError):
        raise DataError(f"{text!r} is no value that a catalog can have") from None


class _Builder:
    """Nodes -> values."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: set[int] = set()
        self._built = 0

    def build(self, node: yaml.Node) -> Any:
        self._built += 1
        if self._built > MAX_VALUES:
            raise self._error(node, f"more than {MAX_VALUES:,} values: expected a catalog")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            raise self._error(node, "the alias stands for a value that it is part of itself")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode) and node.tag == f"{_CORE}seq":
                return tuple(self.build(item) for item in node.value)
            if isinstance(node, yaml.MappingNode) and node.tag == f"{_CORE}map":
                return dict(self._members(node))
        finally:
            self._open.remove(id(node))
        raise self._error(node, f"broken YAML: unknown tag {node.tag!r}: expected a plain value")

    def _members(self, node: yaml.MappingNode) -> Iterator[tuple[str, Any]]:
        """Keys and values, those of merged mappings (`<<`) first: the mapping's own are stronger."""
        seen: dict[str, int] = {}
        own = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a list or mapping as a key: expected a name")
            line = key.start_mark.line + 1
            if key.tag == f"{_CORE}merge":
                yield from self._merged(value)
            elif key.value in seen:
                raise self._error(
                    key, f"broken YAML: key {key.value!r} is there twice, first in line {seen[key.value]}"
                )
            else:
                seen[key.value] = line
                own.append((key.value, value))
        for name, value in own:
            yield name, self.build(value)

    def _merged(self, node: yaml.Node) -> Iterator[tuple[str, Any]]:
        merged = self.build(node)
        for mapping in reversed(merged) if isinstance(merged, tuple) else (merged,):
            if not isinstance(mapping, dict):
                raise self._error(node, "`<<` takes over the keys of mappings: expected an alias of one")
            yield from mapping.items()

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text, tag = node.value, node.tag.removeprefix(_CORE)
        if tag == "str":
            return text
        if tag == "null":
            return None
        if tag == "bool":
            return text in _TRUE
        try:
            if tag in ("int", "float"):
                if zero := _LEADING_ZERO.fullmatch(text):
                    raise self._error(node, f"{text} begins with a zero: write {zero[1]}, or quote it if it is a name")
                return _whole_number(text) if tag == "int" else float(_POINT.sub("", text))
        except ValueError:
            raise self._error(node, f"{text[:40]!r} is no number that can be read") from None
        raise self._error(node, f"broken YAML: unknown tag {node.tag!r}: expected a plain value")

    def _error(self, node: yaml.Node, problem: str) -> DataError:
        return DataError(f"{self._path}:{node.start_mark.line + 1}: {problem}")


_POINT = re.compile(r"\.(?=inf|nan)", re.IGNORECASE)
"""YAML writes `.inf` where Python reads `inf`."""


def _whole_number(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text, base)
