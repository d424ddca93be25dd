"""The command checkpoints convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

checkpoints = typer.Typer(help="Published checkpoints.", no_args_is_help=True, rich_markup_mode=None)


@checkpoints.command("convert")
def convert(
    file: Annotated[Path, typer.Argument(help="A published .pt, .pth or .bin file.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The .safetensors file to write.", show_default="beside it")
    ] = None,
) -> None:
    """Check a published checkpoint key by key and write it as safetensors under today's names.

    Example: merloco checkpoints convert checkpoints/FER_static_ResNet50_AffectNet.pt
    """
    from merloco.models.checkpoints.convert import convert as convert_checkpoint

    done = convert_checkpoint(file, out or file.with_suffix(".safetensors"))
    print(f"{file} is a {done.kind} checkpoint with {done.tensors} tensors and {done.parameters:,} parameters.")
    print(f"wrote {done.path}  sha256 {done.sha256}")
