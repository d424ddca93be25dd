"""The commands of a folder of one's own: init makes it, kinds lists what its catalog can name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from merloco.flows.cli.console import show
from merloco.flows.cli.options import CATALOG, CatalogOption, FormatOption
from merloco.pipelines.errors import DataError

CATALOG_TEXT = """# Your catalog. It extends merloco's: its corpora, encoders, views and experiments are here too.
# Write what differs or is new; an entry that is null is taken out. What can be named: merloco kinds.
extends: merloco
plugins: [my_plugin]

encoders:
  loudness: {kind: loudness, modality: audio, parameters: {bands: 8}}
views:
  loudness: {encoder: loudness, window: 4.0, step: 2.0, pooling: mean_std}
feature_sets:
  mine: {audio: loudness, text: minilm}
training:  # the published settings hold otherwise, which leave features as they are
  mine: {standardize: true, learning_rate: 1.0e-3, dropout: 0.5}

# corpora:
#   mine:
#     parser: mine
#     options: {file: labels.tsv}
#     root: release
#     map: plain
#     maps:
#       plain:
#         labels: {joy: happy, anger: angry, other: drop}
"""
PLUGIN = '''"""Your own encoders and parsers: the catalog names this module under `plugins`."""

import numpy as np
from merloco.models.encoders.base import Encoding, register_encoder


@register_encoder("loudness")
class Loudness:
    """Log energy in bands of the spectrum: one vector per window of sound."""

    modality = "audio"
    parameters = {"bands": 8}  # what the catalog may set under `parameters`, with defaults
    version = 1  # raise it when values change: features are then extracted again

    def __init__(self, spec, device):
        self.dim = spec.parameters["bands"]

    def encode(self, items):
        """Each item is float32 (windows, samples); the answer has a row per window."""
        return [Encoding(self.bands(windows), np.ones(len(windows), bool)) for windows in items]

    def bands(self, windows):
        power = np.abs(np.fft.rfft(windows, n=max(512, windows.shape[1]))) ** 2
        means = [band.mean(axis=1) for band in np.array_split(power, self.dim, axis=1)]
        return np.log(np.stack(means, axis=1) + 1e-9).astype(np.float32)


# A corpus of your own: lines of `name<TAB>label<TAB>split<TAB>sentence`. Take the comment signs away here and in the
# catalog, then: merloco ingest mine
#
# from merloco.pipelines.corpora.base import Parsed, RowError, register_parser
# from merloco.pipelines.samples.schema import Sample
# from pydantic import BaseModel
#
#
# class Options(BaseModel):
#     file: str = "labels.tsv"
#
#
# @register_parser("mine")
# def parse(entry, root, options: Options):
#     parsed = Parsed()
#     for number, line in enumerate((root / options.file).read_text().splitlines(), 1):
#         cells = line.split("\\t")
#         if len(cells) != 4:
#             parsed.errors.append(RowError("bad_row", options.file, number, f"{len(cells)} cells: expected 4"))
#             continue
#         name, label, split, text = cells
#         media = {"audio_status": "no_audio", "video_status": "no_video"}
#         parsed.samples.append(Sample(f"mine/all/{name}", "mine", split, label=label, text=text, **media))
#     return parsed
'''
IGNORED = """store/
demo/
checkpoints/
__pycache__/
"""
FILES = {"catalog.yaml": CATALOG_TEXT, "my_plugin.py": PLUGIN, ".gitignore": IGNORED}


def init(folder: Annotated[Path, typer.Argument(help="Made where it is not there.")] = Path(".")) -> None:
    """Make a folder of your own: a catalog that extends merloco's, a plugin with an encoder, a .gitignore.

    No file is ever written over.
    Example: merloco init my-study
    """
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        raise DataError(f"{str(folder / there[0])!r} is there already: nothing was written; expected another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        with open(folder / name, "x", encoding="utf-8") as file:
            file.write(text)
    print(f"Made {', '.join(FILES)} in {str(folder)!r}.")
    print(f"Next: {'' if folder == Path('.') else f'cd {folder} && '}merloco kinds")


COLUMNS = ("what", "name", "from", "about", "option", "type", "default", "meaning")


def kinds(catalog: CatalogOption = CATALOG, output: FormatOption = "table") -> None:
    """List parsers, encoders and fusion networks: where each comes from, and its options with type, default, meaning.

    Plugins of the catalog, dotted paths that it names and what installed packages bring are among them.
    Example: merloco kinds --format csv
    """
    import pyarrow as pa

    from merloco.features.catalog import load_catalog, own_or_builtin

    load_catalog(own_or_builtin(catalog))
    rows = list(_rows())
    show(pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in COLUMNS}), output)


def _rows() -> Iterator[dict[str, str | None]]:
    """A row per option, and one of a kind that has none."""
    from merloco.features import fusions
    from merloco.features.encoders import ENTRY_POINTS, encoder_kinds, find_encoder, parameter_model
    from merloco.models.encoders.base import BUILTIN as ENCODERS
    from merloco.models.errors import ModelError
    from merloco.models.fusion.networks.base import BUILTIN as FUSIONS
    from merloco.pipelines.corpora import base

    for name in base.parser_names():
        row: dict[str, str | None] = {"what": "parser", "name": name}
        try:
            parser = base.find_parser(name)
        except DataError as error:  # an installed package that is broken hides no other kind
            yield row | {"from": base.ENTRY_POINTS, "about": str(error)}
            continue
        row |= {"from": _source(name, parser.parse, base.BUILTIN, base.ENTRY_POINTS), "about": _about(parser.parse)}
        yield from _with_options(row, parser.options)
    for kind in encoder_kinds():
        row = {"what": "encoder", "name": kind}
        try:
            encoder = find_encoder(kind)
        except ModelError as error:
            yield row | {"from": ENTRY_POINTS, "about": str(error)}
            continue
        row |= {"from": _source(kind, encoder.factory, ENCODERS, ENTRY_POINTS), "about": _about(encoder.factory)}
        yield from _with_options(row, parameter_model(encoder.parameters))
    for name in fusions.fusion_names():
        row = {"what": "fusion", "name": name}
        try:
            fusion = fusions.find_fusion(name)
        except ModelError as error:
            yield row | {"from": fusions.ENTRY_POINTS, "about": str(error)}
            continue
        row |= {"from": _source(name, fusion.factory, FUSIONS, fusions.ENTRY_POINTS), "about": _about(fusion.factory)}
        yield from _with_options(row, fusions.options_model(fusion))


def _source(name: str, thing: Any, builtin: dict[str, str], group: str) -> str:
    from merloco.pipelines.plugins import installed

    if name in builtin:
        return "built in"
    return f"entry point {installed(group)[name].value}" if name in installed(group) else f"plugin {thing.__module__}"


def _about(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _with_options(row: dict[str, str | None], model: type[BaseModel]) -> Iterator[dict[str, str | None]]:
    for name, field in model.model_fields.items():
        yield row | {
            "option": field.alias or name,
            "type": inspect.formatannotation(field.annotation),
            "default": "required" if field.is_required() else repr(field.get_default(call_default_factory=True)),
            "meaning": " ".join((field.description or "").split()) or None,
        }
    if not model.model_fields:
        yield row
