"""Whisper for samples without text (paper: the corpus transcript, Whisper where there is none)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from merloco.models.checkpoints.hub import locate
from merloco.models.checkpoints.model_folder import files_sha256, read_config
from merloco.models.device import float32_products
from merloco.models.encoders.transformer import first_line, load_part
from merloco.models.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

RATE = 16000
"""Hertz of the sound that Whisper hears."""
SEARCH = 5.0
"""Seconds before the end of a chunk in which the cut looks for the quietest place."""
QUIET_FRAME = 0.1
"""Seconds over which that quiet is measured."""
SILENCE = 1e-4
"""Peak (-80 dB of full scale) under which a chunk is silence and never reaches the model."""
NO_SPEECH, LOG_PROBABILITY = 0.6, -1.0
"""Whisper's own rule: no speech where the first exceeds and the mean log probability of the tokens falls below."""
BATCH = 8
"""Chunks per forward pass; does not change a text."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was heard in one sound."""

    text: str
    """Empty where there is no speech."""
    no_speech: bool
    """True where no chunk holds speech."""
    no_speech_probability: float
    """Whisper's own estimate to four places, the least over the chunks; 1 for silence."""
    model: str
    """Hub id, or name of the model folder."""
    revision: str
    """Commit of the hub model, or sha256 of the folder."""


class Transcriber:
    """Whisper with greedy decoding: the same sound gives the same text.

    Args:
        model: Model folder or hub id, for example `openai/whisper-small`.
        revision: Branch, tag or commit of a hub model.
        device: Torch device.
        language: Language of the corpora; a model for English alone takes none.

    Raises:
        ModelError: The model is not there or is no Whisper.
    """

    def __init__(
        self, model: str, revision: str | None = None, device: str = "cpu", language: str | None = "en"
    ) -> None:
        import torch
        from transformers import WhisperForConditionalGeneration
        from transformers.utils import logging

        logging.disable_progress_bar()
        local = Path(model).exists()
        source = locate("Whisper", model if local else None, None if local else model, revision)
        folder = source.fetch()
        read_config(folder, "whisper")
        self.model = source.hub_id or folder.resolve().name
        self.revision = source.commit or files_sha256(folder)
        self.device = device
        processor = load_part(folder, "AutoProcessor", "preprocessor_config.json and tokenizer.json")
        self.extractor, self.tokenizer = processor.feature_extractor, processor.tokenizer
        try:
            network = WhisperForConditionalGeneration.from_pretrained(
                str(folder), local_files_only=True, dtype=torch.float32
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{folder}: no Whisper model: {first_line(error)}") from None
        self.network = network.eval().to(device)
        multilingual = getattr(self.network.generation_config, "is_multilingual", False)
        self.prompt: dict[str, Any] = {"language": language, "task": "transcribe"} if multilingual else {}
        self.no_speech_id = _no_speech_id(self.tokenizer)

    def transcribe(self, waves: Sequence[np.ndarray]) -> list[Transcript]:
        """Write down what is said.

        Args:
            waves: Mono sound at 16 kHz, float32 (n_samples,) each, of any length. Longer than 30 s it is cut at quiet
                places.

        Returns:
            One transcript per wave, in order.
        """
        owners, chunks = [], []
        for number, wave in enumerate(waves):
            for chunk in split_at_quiet(wave, self.extractor.n_samples):
                if np.abs(chunk).max() > SILENCE:
                    owners.append(number)
                    chunks.append(chunk)
        heard: list[list[tuple[str, float]]] = [[] for _ in waves]
        for begin in range(0, len(chunks), BATCH):
            for owner, found in zip(
                owners[begin : begin + BATCH], self._transcribe_batch(chunks[begin : begin + BATCH]), strict=True
            ):
                heard[owner].append(found)
        return [self._transcript(parts) for parts in heard]

    def _transcript(self, parts: list[tuple[str, float]]) -> Transcript:
        text = " ".join(text for text, _ in parts if text)
        probability = min((probability for _, probability in parts), default=1.0)
        return Transcript(text, not text, round(probability, 4), self.model, self.revision)

    def _transcribe_batch(self, chunks: list[np.ndarray]) -> list[tuple[str, float]]:
        """Text and probability of no speech of each chunk of at most 30 s."""
        import torch

        features = self.extractor(chunks, sampling_rate=RATE, return_tensors="pt").input_features.to(self.device)
        with float32_products(), torch.inference_mode():
            heard = self.network.get_encoder()(features)  # once: the greater part of the work, and both need it
            silent = self._no_speech(heard)
            output = self.network.generate(
                encoder_outputs=heard,
                do_sample=False,
                num_beams=1,
                return_timestamps=False,
                return_dict_in_generate=True,
                output_scores=True,
                **self.prompt,
            )
        certainty = _mean_log_probability(output.sequences, output.scores, self.network.generation_config.eos_token_id)
        texts = self.tokenizer.batch_decode(output.sequences, skip_special_tokens=True)
        return [
            ("" if quiet > NO_SPEECH and sure < LOG_PROBABILITY else text.strip(), quiet)
            for text, quiet, sure in zip(texts, silent, certainty, strict=True)
        ]

    def _no_speech(self, heard: Any) -> list[float]:
        """Probability of the no-speech token right after the start of the transcript, from the encoder's output."""
        import torch

        states = heard.last_hidden_state
        start = torch.full((len(states), 1), self.network.generation_config.decoder_start_token_id)
        logits = self.network(encoder_outputs=heard, decoder_input_ids=start.to(self.device)).logits[:, 0]
        return [float(p) for p in logits.softmax(dim=-1)[:, self.no_speech_id].cpu()]


def _no_speech_id(tokenizer: Any) -> int:
    vocabulary = tokenizer.get_vocab()
    for token in ("<|nospeech|>", "<|nocaptions|>"):  # the first models call it by the second name
        if token in vocabulary:
            return int(vocabulary[token])
    raise ModelError("the tokenizer has no <|nospeech|> token: expected that of a Whisper model")


def _mean_log_probability(sequences: Tensor, scores: Sequence[Tensor], end: int) -> list[float]:
    """Mean log probability of the generated tokens of each row, its end token included, what follows left out."""
    import torch

    tokens = sequences[:, -len(scores) :]
    chosen = torch.stack(
        [step.log_softmax(dim=-1).gather(1, tokens[:, i : i + 1])[:, 0] for i, step in enumerate(scores)], dim=1
    )
    ended = (tokens == end).cumsum(dim=1)
    counted = (ended == 0) | ((ended == 1) & (tokens == end))
    return [float(mean) for mean in ((chosen * counted).sum(dim=1) / counted.sum(dim=1)).cpu()]


def split_at_quiet(wave: np.ndarray, longest: int) -> Iterator[np.ndarray]:
    """Cut a wave into chunks of at most `longest` samples, each at the quietest place near its end.

    Args:
        wave: float32 (n_samples,).
        longest: Samples.

    Yields:
        Chunks that together are the wave; none for an empty one.
    """
    frame = round(QUIET_FRAME * RATE)
    while len(wave) > longest:
        first = longest - round(SEARCH * RATE)
        tail = wave[first:longest]
        energy = np.square(tail[: len(tail) // frame * frame].reshape(-1, frame), dtype=np.float64).sum(axis=1)
        cut = first + int(np.argmin(energy)) * frame + frame // 2
        yield wave[:cut]
        wave = wave[cut:]
    if len(wave):
        yield wave
