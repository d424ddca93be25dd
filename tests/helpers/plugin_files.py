"""A researcher's folder: a catalog of her own, a plugin beside it, and a corpus of sentences."""

from pathlib import Path

PLUGIN = '''
import numpy as np
from pydantic import BaseModel
from merloco.models.encoders.base import Encoding
from merloco.pipelines.corpora.base import Parsed
from merloco.pipelines.samples.schema import Sample

class Options(BaseModel):
    file: str = "lines.txt"

def parse(entry, root, options: Options):
    """Lines of `label<TAB>sentence`."""
    parsed = Parsed()
    for number, line in enumerate((root / options.file).read_text().splitlines()):
        label, text = line.split("\\t")
        split = ("train", "train", "val", "test")[number // 2 % 4]
        parsed.samples.append(Sample(f"mine/all/{number}", "mine", split, label=label, text=text, text_status="ok",
                                     audio_status="no_audio", video_status="no_video"))
    return parsed

class Letters:
    """Counts of letters."""
    modality = "text"
    parameters = {"letters": "etaoin", "scale": 1.0}

    def __init__(self, spec, device):
        self.letters, self.scale = spec.parameters["letters"], spec.parameters["scale"]
        self.dim = len(self.letters)

    def encode(self, items):
        rows = [[[self.scale * text.count(letter) for letter in self.letters]] for text in items]
        return [Encoding(np.array(row, np.float32), np.ones(1, bool)) for row in rows]
'''
CATALOG = """plugins: [{module}]
store: store
corpora:
  mine:
    parser: {module}:parse
    options: {{file: lines.txt}}
    root: release
    map: plain
    maps:
      plain:
        labels: {{joy: happy, anger: angry}}
encoders:
  letters: {{kind: '{module}:Letters', modality: text, parameters: {{letters: aeiou}}}}
views:
  letters: {{encoder: letters}}
feature_sets:
  own: {{text: letters}}
"""


def write_workspace(folder: Path, module: str, rows: int = 40) -> Path:
    """Write catalog, plugin (its module's name must be new in this process) and release; returns the catalog."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(PLUGIN, encoding="utf-8")
    (folder / "release").mkdir(exist_ok=True)
    lines = [f"{('joy', 'anger')[i % 2]}\tthis is line {i} of an example" for i in range(rows)]
    (folder / "release" / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    catalog = folder / "catalog.yaml"
    catalog.write_text(CATALOG.format(module=module), encoding="utf-8")
    return catalog
