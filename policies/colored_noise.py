"""Normal noise by key whose neighbours in time are alike, for planners: robots cannot follow white noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SALT = 41  # keeps these draws apart from those of others that use the same keys


def key_generator(key: int, draw: int) -> np.random.Generator:
    """The generator of one draw of one key, any integer of up to 64 bits."""
    return np.random.default_rng([int(key) % 2**64, draw, _SALT])


def colored_noise(keys: Sequence[int], draw: int, shape: tuple[int, int, int], color: float) -> NDArray[np.float64]:
    """Normal noise (b, N, T, D) of variance 1, whose power falls with frequency f along T as f ** -color.

    Row r depends on keys[r] and `draw` alone. Built in the frequency domain after Timmer and Koenig, "On generating
    power law noise", Astronomy and Astrophysics 300, 1995; the constant part gets the power of the lowest frequency.
    """
    count, steps, size = shape
    generators = [key_generator(key, draw) for key in keys]
    if not color or steps == 1:
        return np.stack([generator.standard_normal(shape) for generator in generators])
    frequencies = np.fft.rfftfreq(steps)
    scale = np.maximum(frequencies, frequencies[1]) ** (-color / 2)
    real = np.zeros(len(scale), np.bool_)
    real[0], real[-1] = True, steps % 2 == 0
    variance = np.where(real, 2, 4) @ scale**2 / steps**2
    parts = np.stack([g.standard_normal((2, count, size, len(scale))) for g in generators])
    spectrum = scale * np.where(real, np.sqrt(2) * parts[:, 0], parts[:, 0] + 1j * parts[:, 1])
    noise: NDArray[np.float64] = np.fft.irfft(spectrum, steps, axis=-1) / np.sqrt(variance)
    return noise.swapaxes(-1, -2)
