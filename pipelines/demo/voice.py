"""The demo's voices: harmonics under formants in syllables; pitch, energy and rate follow the emotion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from merloco.pipelines.demo.face import Actor

RATE = 16000
"""Hertz of the synthesis."""
VOWELS = (
    *((730, 1090, 2440), (530, 1840, 2480), (390, 1990, 2550)),
    *((570, 840, 2410), (440, 1020, 2240), (490, 1350, 1690)),
)
"""First three formants of six vowels in Hz (Peterson and Barney 1952, men)."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How an emotion sounds."""

    pitch: float
    """Factor on the actor's mean pitch."""
    range: float
    """Half range of the melody in octaves."""
    trend: float
    """Octaves by which pitch rises over the utterance."""
    rate: float
    """Syllables per second."""
    level: float
    """Decibels."""
    tilt: float
    """Decibels per octave by which harmonics fall."""
    breath: float
    """Noise as a share of the voice."""
    tremor: float
    """Octaves of trembling at 6 Hz."""


MANNERS = {
    "neutral": Manner(1.0, 0.10, -0.10, 4.0, 0, -9, 0.02, 0.0),
    "happy": Manner(1.25, 0.32, 0.05, 4.8, 3, -7, 0.02, 0.0),
    "sad": Manner(0.88, 0.07, -0.22, 2.8, -6, -13, 0.08, 0.01),
    "surprise": Manner(1.40, 0.38, 0.40, 4.2, 2, -8, 0.04, 0.0),
    "fear": Manner(1.42, 0.12, 0.10, 6.0, -1, -9, 0.14, 0.06),
    "disgust": Manner(0.86, 0.18, -0.25, 3.1, 0, -10, 0.05, 0.0),
    "angry": Manner(1.15, 0.26, -0.05, 5.4, 6, -4, 0.03, 0.0),
}


def speak(actor: Actor, emotion: str, strength: float, seconds: float, generator: np.random.Generator) -> np.ndarray:
    """Synthesize one utterance.

    Args:
        actor: Whose voice.
        emotion: A key of `MANNERS`.
        strength: 0 speaks neutrally, 1 with the full manner.
        seconds: Length.
        generator: Source of all variation.

    Returns:
        float32 (round(seconds * RATE),), peak well below 1.
    """
    neutral, full = MANNERS["neutral"], MANNERS[emotion]

    def blend(name: str, spread: float) -> float:
        a, b = getattr(neutral, name), getattr(full, name)
        return float(a + strength * (b - a) + spread * generator.standard_normal())

    n = round(seconds * RATE)
    time = np.arange(n) / RATE
    syllables = max(int(seconds * max(blend("rate", 0.35), 1.5)), 2)
    edges = (np.arange(syllables) + 0.5) / syllables
    accents = generator.standard_normal(syllables)
    melody = np.interp(time / seconds, edges, accents) * max(blend("range", 0.03), 0.02)
    melody += blend("trend", 0.06) * (time / seconds - 0.5)
    melody += max(blend("tremor", 0.0), 0.0) * np.sin(2 * np.pi * 6 * time)
    f0 = actor.pitch * max(blend("pitch", 0.06), 0.6) * 2.0**melody
    envelope = _syllable_envelope(time / seconds, syllables, accents, generator)
    vowels = np.array([VOWELS[i] for i in generator.integers(len(VOWELS), size=syllables)]) / actor.tract
    formants = np.stack([np.interp(time / seconds, edges, vowels[:, k]) for k in range(3)])
    voice = _harmonics(f0, formants, blend("tilt", 0.8))
    noise = generator.standard_normal(n) * max(blend("breath", 0.01), 0.005)
    wave = (voice + noise) * envelope
    wave = wave / (np.sqrt(np.mean(wave**2)) + 1e-9)
    level = 10 ** ((-26 + blend("level", 1.5)) / 20)
    return np.clip(wave * level, -0.98, 0.98).astype(np.float32)


def _syllable_envelope(
    position: np.ndarray, syllables: int, accents: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    phase = (position * syllables) % 1.0
    shape = np.sin(np.pi * phase) ** 0.7
    which = np.minimum((position * syllables).astype(int), syllables - 1)
    loud = 10 ** (0.12 * accents[which])
    pause = np.where((which == int(generator.integers(syllables))) & (syllables > 5), 0.05, 1.0)
    return np.asarray(shape * loud * pause)


def _harmonics(f0: np.ndarray, formants: np.ndarray, tilt: float) -> np.ndarray:
    """Sum of harmonics below 4 kHz, each as loud as the formants and the spectral tilt let it be."""
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    step = 80  # amplitudes move slowly: every 5 ms is enough
    coarse = slice(None, None, step)
    grid = np.arange(len(f0))
    total = np.zeros(len(f0))
    for k in range(1, int(4000 / f0.min()) + 1):
        frequency = k * f0[coarse]
        resonance = sum(1.0 / (1.0 + ((frequency - f[coarse]) / (60 + 0.06 * f[coarse])) ** 2) for f in formants)
        gain = (0.08 + resonance) * 10 ** (tilt * np.log2(k) / 20) * (frequency < 4000)
        total += np.interp(grid, grid[coarse], gain) * np.sin(k * phase)
    return total


def add_room(wave: np.ndarray, echo: float, noise: float, generator: np.random.Generator) -> np.ndarray:
    """A recording's colour: an exponential echo and a noise floor.

    Args:
        wave: float32 (n,).
        echo: Seconds after which the echo has fallen by 60 dB.
        noise: STD of the noise floor.
        generator: Source of noise.
    """
    from scipy.signal import fftconvolve

    n = max(int(echo * RATE), 1)
    impulse = generator.standard_normal(n) * 10 ** (-3 * np.arange(n) / n) * 0.12
    impulse[0] = 1.0
    wet = fftconvolve(wave, impulse)[: len(wave)]
    return np.clip(wet + noise * generator.standard_normal(len(wave)), -1, 1).astype(np.float32)
