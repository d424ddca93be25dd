"""A user's own modules: plugins of a catalog, dotted paths `my_module:MyClass`, entry points of installed packages."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from merloco.pipelines.errors import DataError, suggest

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def make_importable(folder: Path) -> None:
    """Let the modules of a folder be imported, after everything that is installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def import_plugin(name: str, folders: Sequence[Path] = ()) -> ModuleType:
    """Import a module that a catalog names.

    Args:
        name: Its import name.
        folders: A module of that name which lies in one of these is the one that is meant.

    Raises:
        DataError: It is not there, it cannot be imported, or another one of that name was imported.
    """
    if not _MODULE.fullmatch(name):
        raise DataError(f"{name!r} is no module: expected an import name such as my_module or my.package")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            file = f"{name.replace('.', '/')}.py"
            raise DataError(
                f"module {name!r} not found: expected {file} beside the catalog, or an installed package"
            ) from None
        raise _import_error(name, error) from None
    except (Exception, SystemExit) as error:  # a user's module may do anything
        raise _import_error(name, error) from None
    for folder in folders:
        path = folder.joinpath(*name.split("."))
        here = next((p for p in (path / "__init__.py", path.with_suffix(".py")) if p.is_file()), None)
        if here is not None and module.__file__ is not None and here.samefile(module.__file__):
            break
        if here is not None:
            raise DataError(
                f"module {name!r} is {module.__file__}, not the file beside the catalog: give that one another name"
            )
    return module


def _import_error(name: str, error: BaseException) -> DataError:
    """What a module raised, with the line of it where that happened."""
    if isinstance(error, SyntaxError):
        return DataError(f"module {name!r} cannot be imported: {error.filename}:{error.lineno}: {error.msg}")
    frames = [
        f"{frame.f_code.co_filename}:{line}: "
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_globals.get("__name__", "").startswith(("importlib", "merloco."))
    ]
    reason = " ".join(str(error).split())
    return DataError(
        f"module {name!r} cannot be imported: {frames[-1] if frames else ''}{type(error).__name__}: {reason}"
    )


def find_object(path: str) -> Any:
    """What a dotted path `module:attribute` names, something that can be called.

    Raises:
        DataError: No such module or attribute, or it cannot be called.
    """
    name, _, attribute = path.partition(":")
    module = import_plugin(name)
    if attribute not in vars(module):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise DataError(f"module {name!r} has no {attribute!r}: {suggest(attribute, own)}")
    found = vars(module)[attribute]
    if not callable(found):
        raise DataError(f"{path!r} is {type(found).__name__}, which cannot be called: expected a function or a class")
    return found


@cache
def installed(group: str) -> dict[str, EntryPoint]:
    """Name -> entry point of a group, of all installed packages."""
    return {point.name: point for point in entry_points(group=group)}


def find_plugged(name: str, group: str) -> Any | None:
    """What a dotted path, or an entry point of a group, names; None if the name is neither.

    Raises:
        DataError: It is not where the path or the entry point says, or cannot be called.
    """
    if ":" in name:
        return find_object(name)
    point = installed(group).get(name)
    return find_object(point.value) if point else None


def source_digest(thing: Any) -> str | None:
    """sha256 of the file that a function or class is written in; None where there is no such file."""
    try:
        return hashlib.sha256(Path(inspect.getfile(inspect.unwrap(thing))).read_bytes()).hexdigest()
    except (TypeError, OSError):
        return None
