"""Tiny models and small random checkpoints in the published formats, made on the spot; and the reference vectors."""

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

REFERENCE = Path(os.environ.get("MERLOCO_REFERENCE", Path(__file__).parents[1] / "data" / "reference"))
SEED = json.loads((REFERENCE / "meta.json").read_text(encoding="utf-8"))["seed"]
SENTENCES = (
    "i am so happy today",
    "this is terrible and sad",
    "what a surprise",
    "he said nothing at all, fine",
    "hello world",
    "why are you angry",
)
CONV_STRIDE, CONV_KERNEL = (5, 2, 2, 2, 2, 2, 2), (10, 3, 3, 3, 3, 2, 2)


# ---- seeded weights and inputs, as the vectors were made (see the recipe in each function)


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float32 that depends on the name alone."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode())]).standard_normal(shape, dtype=np.float32)


def seeded_tensor(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weight of one key: positive variances, norms near one, products scaled by their fan-in."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    d = draw(key, shape)
    if key.endswith("running_var"):
        d = 0.5 + 0.5 * np.abs(d)
    elif key.endswith("running_mean"):
        d = 0.1 * d
    elif len(shape) < 2:
        d = 1 + 0.1 * d if key.endswith("weight") else 0.1 * d
    elif key.split(".")[-1].startswith("WF"):
        d = d / np.float32(np.sqrt(shape[0]))
    else:
        d = d / np.float32(np.sqrt(np.prod(shape[1:])))
    return torch.from_numpy(np.asarray(d, dtype=np.float32))


def seeded_state(network: str) -> dict[str, torch.Tensor]:
    """State dict of one of the networks in state_dict_shapes.json, in the published checkpoints' key names."""
    shapes = json.loads((REFERENCE / "state_dict_shapes.json").read_text(encoding="utf-8"))[network]
    return {key: seeded_tensor(key, tuple(shape)) for key, shape in shapes.items()}


def vectors(name: str) -> dict[str, np.ndarray]:
    """Arrays of a reference file."""
    with np.load(REFERENCE / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def audio_config() -> dict[str, Any]:
    """Configuration of the tiny wav2vec2."""
    return json.loads((REFERENCE / "audio_wav2vec2_tiny_config.json").read_text(encoding="utf-8"))


def text_config() -> dict[str, Any]:
    """Configuration of the tiny RoBERTa."""
    return json.loads((REFERENCE / "text_roberta_tiny_config.json").read_text(encoding="utf-8"))


# ---- published formats


def save_audio(folder: Path, state: dict[str, torch.Tensor] | None = None, name: str = "audio.pt") -> Path:
    """A published audio checkpoint with its config.json beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state or seeded_state("audio_wav2vec2_tiny"), folder / name)
    (folder / "config.json").write_text(json.dumps(audio_config()))
    return folder / name


def save_text(folder: Path, state: dict[str, torch.Tensor] | None = None, name: str = "text.pt") -> Path:
    """A published text checkpoint with config.json and a tokenizer beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state or seeded_state("text_roberta_tiny"), folder / name)
    (folder / "config.json").write_text(json.dumps(text_config()))
    save_tokenizer(folder, text_config()["vocab_size"])
    return folder / name


def old_weight_norm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights as an older torch names them."""
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {}
    for key, tensor in state.items():
        for new, old in names.items():
            key = key.replace(new, old)
        renamed[key] = tensor
    return renamed


# ---- Hugging Face folders


def save_tokenizer(folder: Path, vocabulary: int = 400) -> None:
    """A RoBERTa tokenizer over the characters of the sentences, at most `vocabulary` tokens."""
    from transformers import RobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    characters = sorted({c for sentence in SENTENCES for c in sentence.replace(" ", "Ġ")} | {"Ġ"})
    tokens = {token: number for number, token in enumerate([*special, *characters])}
    assert len(tokens) <= vocabulary
    tokenizer = RobertaTokenizer(vocab=tokens, merges=[])
    assert len(tokenizer) == len(tokens)
    tokenizer.save_pretrained(folder)


def save_roberta(folder: Path, seed: int = 0) -> Path:
    """A RoBERTa classifier with its tokenizer."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    torch.manual_seed(seed)
    model = RobertaForSequenceClassification(RobertaConfig(**{**text_config(), "hidden_size": 32}))
    model.save_pretrained(folder)
    save_tokenizer(folder, text_config()["vocab_size"])
    return folder


def save_speech(folder: Path, kind: str = "wav2vec2", norm: str = "group") -> Path:
    """A tiny wav2vec2, HuBERT or WavLM with its feature extractor."""
    import transformers

    name = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}[kind]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        conv_stride=CONV_STRIDE,
        conv_kernel=CONV_KERNEL,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
    )
    getattr(transformers, f"{name}Model")(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=norm == "layer").save_pretrained(
        folder
    )
    return folder


def save_vit(folder: Path) -> Path:
    """A tiny ViT with its image processor (32 x 32 pixels)."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=16,
        num_labels=7,
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def save_resnet(folder: Path) -> Path:
    """A tiny image ResNet with its processor."""
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=7)
    ResNetForImageClassification(config).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(folder)
    return folder


def save_whisper(folder: Path, deaf: bool = False) -> Path:
    """A tiny Whisper of two languages with feature extractor and tokenizer; a deaf one believes that nobody speaks."""
    from tokenizers import AddedToken
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    characters = sorted({c for sentence in SENTENCES for c in sentence.replace(" ", "Ġ")})
    end = "<|endoftext|>"
    tokenizer = WhisperTokenizer(
        vocab={token: number for number, token in enumerate([*characters, end])},
        merges=[],
        unk_token=end,
        bos_token=end,
        eos_token=end,
        pad_token=end,
    )
    names = ("startoftranscript", "en", "de", "translate", "transcribe", "startoflm", "startofprev", "nospeech")
    marks = [f"<|{name}|>" for name in (*names, "notimestamps")]
    tokenizer.add_special_tokens({"extra_special_tokens": marks})
    tokenizer.add_tokens([AddedToken(f"<|{i * 0.02:.2f}|>", special=False) for i in range(1501)])
    number = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in [*marks, end]}
    torch.manual_seed(0)
    ends = {"pad_token_id": number[end], "bos_token_id": number[end], "eos_token_id": number[end]}
    start = number["<|startoftranscript|>"]
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_mel_bins=80,
        max_target_positions=64,
        decoder_start_token_id=start,
        init_std=0.02 if deaf else 0.5,
        **ends,
    )
    model = WhisperForConditionalGeneration(config).eval()
    if deaf:
        with torch.no_grad():
            first = model.model(torch.zeros(1, 80, 3000), decoder_input_ids=torch.tensor([[start]])).last_hidden_state
            model.proj_out.weight[number["<|nospeech|>"]] = first[0, 0]
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        is_multilingual=True,
        lang_to_id={"<|en|>": number["<|en|>"], "<|de|>": number["<|de|>"]},
        task_to_id={"transcribe": number["<|transcribe|>"], "translate": number["<|translate|>"]},
        no_timestamps_token_id=number["<|notimestamps|>"],
        prev_sot_token_id=number["<|startofprev|>"],
        suppress_tokens=list(range(len(characters) + 1, len(tokenizer))),
        max_length=24,
        return_timestamps=False,
        **ends,
    )
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer).save_pretrained(folder)
    return folder


def waves(n: int, samples: int, seed: int = 0) -> np.ndarray:
    """Noise with a tone, float32 (n, samples)."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / 16000
    tones = np.sin(2 * np.pi * rng.uniform(100, 400, (n, 1)) * time)
    return (0.1 * tones + 0.01 * rng.standard_normal((n, samples))).astype(np.float32)


def photograph(side: int = 256) -> np.ndarray:
    """A real face, uint8 RGB (side, side, 3): the astronaut of scikit-image."""
    from PIL import Image
    from skimage.data import astronaut

    return np.asarray(Image.fromarray(astronaut()).resize((side, side)))
