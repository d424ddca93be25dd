"""The reference of catalog.yaml as Markdown, from the models that check it (`make docs`)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from merloco.pipelines.catalog import entries
from merloco.pipelines.corpora.base import BUILTIN, find_parser

SECTIONS: dict[str, type[BaseModel]] = {
    "corpora": entries.CorpusEntry,
    "corpora.NAME.maps": entries.LabelMap,
    "corpora.NAME.maps.NAME.multi": entries.MultiLabel,
    "corpora.NAME.validation": entries.Validation,
    "corpora.NAME.media_rules": entries.MediaRules,
    "encoders": entries.EncoderEntry,
    "views": entries.ViewEntry,
    "feature_sets": entries.FeatureSet,
    "training": entries.Training,
    "experiments": entries.Experiment,
    "experiments.NAME.search": entries.Search,
    "experiments.NAME.search.settings.NAME": entries.Range,
    "experiments.NAME.folds": entries.Folds,
}
HEAD = """# Catalog reference

Written by `make docs` from the models in `pipelines/catalog/entries.py`, which refuse unknown keys and name the nearest
known one. A value may hold `${VARIABLE}` or `${VARIABLE:-default}`, filled in from the environment as text.

At the top stand `extends` (`merloco`, or a file: mappings are merged by key, null takes an entry out), `plugins`
(modules to import) with `plugin_folders` (where else than beside the catalog they lie), `store`, `label_order`, and the
sections below. See [your own folder](own-folder.md); `merloco kinds` lists parsers and encoders with their options.

The file is YAML 1.2: `true` and `false` are the only truth values, `no`, `1:30` and `2024-01-01` are text, and every
key is a name as it is written, so that labels may be called `no`, `null` or `1`. A number that begins with a zero is
refused, and so are text where a number is wanted and a number where text is wanted: quote it. Values that contradict
each other or can do nothing (a step longer than its window, an experiment that names a corpus twice) are refused with
their line; keys that a parser does not read and ids of no sample are notes of the ingest's audit.
"""


def reference() -> str:
    """One table per kind of entry: key, type, default, meaning."""
    parts = [HEAD]
    options: dict[str, type[BaseModel]] = {}
    for name in sorted(BUILTIN):
        options |= _with_nested("corpora.NAME.options", f", parser {name}", find_parser(name).options)
    for section, model in (SECTIONS | options).items():
        parts.append(f"\n## `{section}`\n\n{' '.join((model.__doc__ or '').split())}\n\n")
        parts.append("| key | type | default | meaning |\n|---|---|---|---|\n")
        for name, field in model.model_fields.items():
            meaning = " ".join((field.description or "").split()).replace("|", "\\|")
            parts.append(f"| `{name}` | {_type(field)} | {_default(field)} | {meaning} |\n")
    return "".join(parts)


def _with_nested(place: str, suffix: str, model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """A model that has fields, and the models of its fields, by the headings of their sections."""
    found = {place + suffix: model} if model.model_fields else {}
    for name, field in model.model_fields.items():
        for kind in getattr(field.annotation, "__args__", ()):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= _with_nested(f"{place}.{name}", suffix, kind)
    return found


def _type(field: FieldInfo) -> str:
    text = re.sub(r"<class '([\w.]+)'>", r"\1", str(field.annotation))
    text = re.sub(r"(?:typing|merloco[\w.]*)\.(?:Literal)?", "", text)
    limits = ", ".join(str(limit) for limit in field.metadata)
    return f"`{text}`".replace("|", "\\|") + (f" {limits}" if limits else "")


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else f"`{field.default!r}`".replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
