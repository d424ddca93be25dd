"""Published checkpoints converted to safetensors under today's names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from merloco.models.checkpoints.identity import sha256_of
from merloco.models.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn
from merloco.models.checkpoints.state_dict import _some, check_fit, load_state_dict, rows_of


@dataclass(frozen=True, slots=True)
class Conversion:
    """What `convert` did."""

    kind: str
    path: Path
    tensors: int
    parameters: int
    classes: int
    """Rows of the head; 0 for a detector."""
    source_sha256: str
    sha256: str


def convert(path: str | Path, out: str | Path) -> Conversion:
    """Write a published checkpoint as safetensors, under today's names, after checking every key and shape.

    The network is told by the checkpoint's own keys. Audio and text checkpoints of other than the published sizes need
    their config.json beside them (see `merloco.models.encoders.published.wav2vec2.find_config`).

    Args:
        path: A .pt, .pth or .bin file.
        out: The .safetensors file to write; replaced atomically.

    Raises:
        ModelError: The file is of none of the published networks, or a key is missing, unexpected or misshaped.
    """
    from safetensors.torch import save

    path, out = Path(path), Path(out)
    if out.suffix != ".safetensors":
        raise ModelError(f"{out}: expected a file name that ends with .safetensors")
    state = load_state_dict(path)
    kind, network, head = _recognise(state, path)
    check_fit(network, state, path, kind)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        # A copy of each tensor: safetensors refuses views that share memory. Its own `save_file` makes files that only
        # their user can read.
        copies = {name: tensor.detach().clone().contiguous() for name, tensor in sorted(state.items())}
        with partial.open("wb") as handle:
            handle.write(save(copies, metadata={"format": "pt"}))
            os.fsync(handle.fileno())
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    parameters = sum(tensor.numel() for tensor in state.values())
    return Conversion(kind, out, len(state), parameters, rows_of(state, head, 0), sha256_of(path), sha256_of(out))


def _recognise(state: Mapping[str, Tensor], path: Path) -> tuple[str, nn.Module, str]:
    """Kind, an empty network to compare with, and the key of the head whose rows are the classes."""
    import torch

    with torch.device("meta"):
        if "conv_layer_s2_same.weight" in state:
            from merloco.models.encoders.published.resnet import network_for as resnet_for

            return "resnet50_affectnet", resnet_for(state), "fc2.weight"
        if "projector.weight" in state:
            from merloco.models.encoders.published.wav2vec2 import find_config, network_for

            return "wav2vec2_projector", network_for(state, find_config(path)), "classifier.weight"
        if "classifier.dense.weight" in state:
            from merloco.models.encoders.published.roberta import find_config as find_text_config
            from merloco.models.encoders.published.roberta import network_for as roberta_for

            return "roberta_dense", roberta_for(state, find_text_config(path)), "classifier.out_proj.weight"
        if "ClassHead.0.conv1x1.weight" in state:
            from merloco.models.faces.retinaface import make_network

            return "retinaface", make_network(), ""
        if "fc_avt.weight" in state:
            from merloco.models.fusion.gated import FusionNet

            dims = {m: rows_of(state, f"fc_{m}.weight", 0) for m in ("audio", "video", "text")}
            present = {modality: dim for modality, dim in dims.items() if dim}
            fusion = FusionNet(present, rows_of(state, "fc_avt.weight", 0), rows_of(state, "classifier.weight", 0))
            return "fusion", fusion, "classifier.weight"
    raise ModelError(
        f"{path}: not a published checkpoint: expected keys of the face, audio, text, detector or fusion network "
        "(such as conv_layer_s2_same.weight, projector.weight, classifier.dense.weight, ClassHead.0.conv1x1.weight or "
        "fc_avt.weight), "
        f"got {_some(list(state))}"
    )
