"""What turns a clip into a row of features: the I3D network of FVD from a local file, or any function of yours.

**FVD** needs the file `i3d_torchscript.pt` that StyleGAN-V and most papers since have used: a TorchScript module that
is called as `module(video, rescale=True, resize=True, return_features=True)`, where video is uint8 (n, 3, T, H, W), and
returns the logits (n, 400) of Kinetics-400. It scales to [-1, 1] and resizes to 224 x 224 by itself; nothing is done to
the frames before. Other I3D weights and other networks give other numbers, and are not called FVD here. Nothing is
downloaded: the file is one that the user has.

A TorchScript file is a program. **Loading and calling it runs the code in it**, with all rights of this process, so
`I3d.load` wants `trust_code=True` said by somebody who knows where the file is from; `sha256` pins it.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.metrics.local_files import read_local
from vap_sim.metrics.report import NetworkCard

I3D_DIMENSION = 400
I3D_LEAST_FRAMES = 10
"""With fewer frames nothing is left of a clip after I3D's strides in time."""


class Extractor(Protocol):
    """Clips uint8 (n, T, H, W, 3) -> features (n, D); a clip's features must not depend on the others."""

    @property
    def card(self) -> NetworkCard:
        """Which network this is."""

    def __call__(self, frames: Tensor, /) -> Tensor:
        """The features of n clips."""


class I3d:
    """The I3D network of FVD; see the module's text for the file."""

    def __init__(self, module: Any, card: NetworkCard, source: Path, device: str) -> None:
        """Use `load`."""
        self._module, self._card, self._source, self._device = module, card, source, device

    @classmethod
    def load(cls, path: Path | str, *, trust_code: bool = False, sha256: str | None = None, device: str = "cpu") -> I3d:
        """The network in a TorchScript file. `trust_code=True` says that the code in it may run here.

        Raises InvalidInput without it, BadFile where the file is missing, has another hash, or is no TorchScript.
        """
        if trust_code is not True:
            expected = "True: a TorchScript file is a program, and loading it runs it"
            raise InvalidInput("trust_code", trust_code, expected)
        file = read_local(path, sha256=sha256)
        if not zipfile.is_zipfile(io.BytesIO(file.content)):
            raise BadFile(file.path, "not a whole TorchScript file (no archive)")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit; the file exists in no other format
                module = torch.jit.load(io.BytesIO(file.content), map_location=device).eval()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise BadFile(file.path, f"not a TorchScript file ({_first_line(error)})") from error
        how = "StyleGAN-V: uint8 RGB to the network, which scales to [-1, 1] and resizes to 224 x 224 (trilinear)"
        return cls(module, NetworkCard("I3D, Kinetics-400 logits, TorchScript", file.sha256, how), file.path, device)

    @property
    def card(self) -> NetworkCard:
        return self._card

    @torch.inference_mode()
    def __call__(self, frames: Tensor, /) -> Tensor:
        """Clips uint8 (n, T, H, W, 3) -> logits (n, 400) float64 on the CPU.

        Raises InvalidInput for other clips or fewer than I3D_LEAST_FRAMES frames, BadFile where the network fails.
        """
        check_clips(frames)
        if frames.shape[1] < I3D_LEAST_FRAMES:
            raise InvalidInput("clips", f"{frames.shape[1]} frames", f"at least {I3D_LEAST_FRAMES} for I3D")
        video = frames.permute(0, 4, 1, 2, 3).contiguous().to(self._device)
        try:
            logits = self._module(video, rescale=True, resize=True, return_features=True)
        except (RuntimeError, TypeError) as error:
            problem = f"cannot be called as (video, rescale, resize, return_features): {_first_line(error)}"
            raise BadFile(self._source, problem) from error
        if not isinstance(logits, Tensor) or logits.shape != (len(frames), I3D_DIMENSION):
            given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise BadFile(self._source, f"gives {given} for {len(frames)} clips, expected (n, {I3D_DIMENSION})")
        if not bool(torch.isfinite(logits).all()):
            raise BadFile(self._source, "gives logits that are not finite")
        return logits.double().cpu()


class NamedExtractor:
    """Any function of clips uint8 (n, T, H, W, 3) -> features (n, D), under a name and hash of your own."""

    def __init__(self, function: Callable[[Tensor], Tensor], *, name: str, sha256: str, preprocessing: str) -> None:
        """sha256: of its weights, or of whatever else fixes what it computes. Raises InvalidInput for no hash."""
        self._function = function
        self._card = NetworkCard(name, sha256, preprocessing)

    @property
    def card(self) -> NetworkCard:
        return self._card

    @torch.inference_mode()
    def __call__(self, frames: Tensor, /) -> Tensor:
        """The features (n, D) in float64 on the CPU. Raises InvalidInput for other clips, and for other features."""
        check_clips(frames)
        found = self._function(frames)
        if found.ndim != 2 or len(found) != len(frames) or not bool(torch.isfinite(found).all()):
            given = f"{tuple(found.shape)} for {len(frames)} clips"
            raise InvalidInput(f"features of {self._card.name}", given, "(n, D), finite")
        return found.double().cpu()


def check_clips(frames: Tensor) -> None:
    """Raises InvalidInput unless frames are uint8 (n, T, H, W, 3) with none of them empty."""
    if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[-1] != 3 or not frames.numel():
        raise InvalidInput("clips", f"{frames.dtype} {tuple(frames.shape)}", "torch.uint8 (n, T, H, W, 3), not empty")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
