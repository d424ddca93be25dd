"""Prosody and timbre of a window of sound, without a trained network: spectrum, pitch and energy statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from merloco.models.device import inference, to_device
from merloco.models.encoders.base import Encoder, EncoderSpec, Encoding, parameters_of, register_encoder
from merloco.models.encoders.batching import WINDOWS, BatchSize, encode_windows

if TYPE_CHECKING:
    import torch

VERSION = 1
DEFAULTS = {"sample_rate": 16000, "n_mels": 40, "n_mfcc": 13, "f0_min": 70.0, "f0_max": 500.0}
FRAME, HOP = 0.025, 0.010
"""Seconds of an analysis frame and between frames."""
PITCH_FRAME = 0.040
"""Seconds of a pitch frame: it has to hold two periods of the lowest voice."""
VOICED = 0.5
"""Height of the normalised autocorrelation peak from which a frame counts as voiced."""
PITCH_VALUES = 7


def _identity(spec: EncoderSpec) -> dict[str, Any]:
    return {
        "kind": "prosody",
        "version": VERSION,
        "frame": FRAME,
        "hop": HOP,
        "pitch_frame": PITCH_FRAME,
        "voiced": VOICED,
        **parameters_of(spec, DEFAULTS),
    }


@register_encoder("prosody", _identity, DEFAULTS)
class Prosody:
    """Mean and STD over frames of log-mel, MFCC with two deltas and log energy; pitch statistics of voiced frames.

    The level of a window is taken out of its spectrum (recording levels differ between corpora more than between
    emotions) and kept in the energy values.
    """

    modality = "audio"

    def __init__(self, spec: EncoderSpec, device: str) -> None:
        import torch
        from torchaudio.transforms import MelSpectrogram

        self.parameters = parameters_of(spec, DEFAULTS)
        self.device, self.batch = device, BatchSize(WINDOWS, device)
        rate, n_mels, n_mfcc = (self.parameters[name] for name in ("sample_rate", "n_mels", "n_mfcc"))
        self.mel = MelSpectrogram(
            sample_rate=rate,
            n_fft=max(512, 2 ** math.ceil(math.log2(round(FRAME * rate)))),
            win_length=round(FRAME * rate),
            hop_length=round(HOP * rate),
            n_mels=n_mels,
            f_min=50.0,
        ).to(device)
        # An orthonormal DCT-II turns log-mel into cepstra.
        k, n = torch.arange(n_mfcc)[:, None], torch.arange(n_mels)[None]
        dct = torch.cos(torch.pi / n_mels * (n + 0.5) * k) * (2.0 / n_mels) ** 0.5
        dct[0] /= 2.0**0.5
        self.dct = dct.to(device)
        self.dim = 2 * (n_mels + 3 * n_mfcc + 2) + PITCH_VALUES
        self.frame, self.hop = round(FRAME * rate), round(HOP * rate)
        self.shortest = max(round(PITCH_FRAME * rate), self.mel.n_fft // 2 + 1)

    def encode(self, items: Sequence[np.ndarray]) -> list[Encoding]:
        """Encode windows, float32 (n_windows, n_samples) per item; one vector per window."""
        return encode_windows(items, self._forward, self.dim, self.batch, self.shortest)

    def _forward(self, waves: np.ndarray) -> np.ndarray:
        with inference(self.device):
            return np.asarray(self._describe(to_device(waves, self.device)).cpu().numpy())

    def _describe(self, wave: torch.Tensor) -> torch.Tensor:
        import torch
        from torchaudio.functional import compute_deltas

        rms = wave.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-5)
        mel = torch.log(self.mel(wave / rms) + 1e-6)
        cepstra = self.dct @ mel
        deltas = compute_deltas(cepstra)
        energy = torch.log(torch.nn.functional.avg_pool1d((wave / rms).square()[:, None], self.frame, self.hop) + 1e-6)
        flux = compute_deltas(energy)
        blocks = [mel, cepstra, deltas, compute_deltas(deltas)]
        parts = [statistic for block in blocks for statistic in (block.mean(-1), block.std(-1, correction=0))]
        parts += [torch.log(rms), energy.std(-1, correction=0)[:, 0:1], flux.abs().mean(-1), flux.std(-1, correction=0)]
        return torch.cat([*parts, self._pitch(wave)], dim=-1)

    def _pitch(self, wave: torch.Tensor) -> torch.Tensor:
        """Voiced share; mean, STD, 10 % and 90 % points, mean absolute change and trend of log2 F0 (voiced frames)."""
        import torch

        rate = self.parameters["sample_rate"]
        length, hop = round(PITCH_FRAME * rate), round(HOP * rate)
        frames = wave.unfold(-1, length, hop)
        frames = (frames - frames.mean(-1, keepdim=True)) * torch.hann_window(length, device=wave.device)
        size = 2 * length
        correlation = torch.fft.irfft(torch.fft.rfft(frames, size).abs().square(), size)[..., :length]
        own = torch.fft.rfft(torch.hann_window(length, device=wave.device), size).abs().square()
        window = torch.fft.irfft(own, size)[:length]
        # Dividing by the window's own autocorrelation keeps long periods comparable with short ones (Boersma 1993).
        normal = correlation / correlation[..., :1].clamp(min=1e-9) / (window / window[0]).clamp(min=0.05)
        low, high = int(rate / self.parameters["f0_max"]), int(rate / self.parameters["f0_min"])
        lags = torch.arange(low, high, device=wave.device)
        peak, at = (normal[..., low:high] - 0.02 * torch.log2(lags / low)).max(-1)
        power = frames.square().mean(-1)
        voiced = (peak > VOICED) & (power > 1e-3 * power.amax(-1, keepdim=True)) & (power > 1e-10)
        log_f0 = torch.log2(rate / (at + low).to(wave.dtype))
        most = wave.shape[-1] / hop
        return torch.stack([_pitch_values(f0[on], most) for f0, on in zip(log_f0, voiced, strict=True)])


def _pitch_values(log_f0: torch.Tensor, frames: float) -> torch.Tensor:
    """See `Prosody._pitch`.

    Args:
        log_f0: float32 (n,), of the voiced frames.
        frames: How many frames there would be if the whole window were voiced.
    """
    import torch

    share = torch.tensor([min(len(log_f0) / frames, 1.0)], device=log_f0.device)
    if len(log_f0) < 5:
        return torch.cat([share, torch.full((1,), 7.5, device=log_f0.device), log_f0.new_zeros(PITCH_VALUES - 2)])
    points = torch.quantile(log_f0, torch.tensor([0.1, 0.9], device=log_f0.device))
    time = torch.linspace(-0.5, 0.5, len(log_f0), device=log_f0.device)
    trend = (log_f0 * time).mean() / time.square().mean()
    return torch.cat([share, torch.stack([log_f0.mean(), log_f0.std(), *points, log_f0.diff().abs().median(), trend])])


_conforms: type[Encoder] = Prosody
