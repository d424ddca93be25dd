"""The devices of this machine that a command names."""

from __future__ import annotations

from merloco.flows.lists import split_list
from merloco.pipelines.errors import UsageError, suggest


def find_device(name: str) -> str:
    """`auto` is the GPU where there is one.

    Raises:
        UsageError: No such device here.
    """
    if name == "cpu":
        return name
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    known = ["cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if torch.backends.mps.is_available():
        known.append("mps")
    if name not in known:
        raise UsageError(f"no device {name!r} here: {suggest(name, known)}")
    return name


def device_list(value: str) -> list[str]:
    """The devices of this machine that `--device` names: `cuda` is every GPU, `auto` every GPU or else the CPU.

    Raises:
        UsageError: A device is unknown, or this machine does not have it.
    """
    names = split_list(value) or []
    if set(names) == {"cpu"}:
        return ["cpu"]
    import torch

    there = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if names == ["auto"]:
        return there or ["cpu"]
    if names == ["cuda"] and there:
        return there
    for name in names:
        if name not in there:
            raise UsageError(
                f"--device {value!r}: this machine has no {name!r}: expected auto or {', '.join(['cpu', *there])}"
            )
    return names
