"""Encoding one long film, picture by picture, of which parts can be found again exactly."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from vap_sim.errors import InvalidInput


@dataclass(frozen=True)
class FilmSettings:
    """How a film is encoded. quality: x264's constant rate factor, 0 to 51, lower is better; lossless: pictures come
    back bit for bit, whatever the quality; key_every: frames from which decoding can begin, so that any one is near."""

    quality: int = 18
    lossless: bool = False
    key_every: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.quality <= 51 or self.key_every < 1:
            given = f"quality {self.quality}, key frame every {self.key_every}"
            raise InvalidInput("film", given, "a quality of 0 to 51 and a key frame at least every 1")

    def pixels(self, size: tuple[int, int]) -> str:
        """Name of the pixel format, which has half the resolution in colour where the size allows it."""
        return "gbrp" if self.lossless else "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"


class Film:
    """An MP4 file of H.264 that is being written; at the end of a `with` block it is whole."""

    def __init__(self, path: Path, size: tuple[int, int], frame_rate: int, settings: FilmSettings) -> None:
        """Opens the file. size: (width, height) [px]."""
        self.frames, self.bytes = 0, 0
        self._size, self._rate = size, frame_rate
        self._container = av.open(str(path), "w", format="mp4")
        stream: Any = self._container.add_stream("libx264rgb" if settings.lossless else "libx264", rate=frame_rate)
        stream.width, stream.height = size
        stream.pix_fmt = "rgb24" if settings.lossless else settings.pixels(size)
        # Pictures in the order they are shown, so that times in the file are exactly those of the frames.
        quality = "0" if settings.lossless else str(settings.quality)
        stream.options = {"crf": quality, "g": str(settings.key_every), "bf": "0", "forced-idr": "1"}
        self._stream = stream

    def add(self, picture: np.ndarray, key: bool = False) -> None:
        """One picture (H, W, 3) uint8; key: decoding can begin here. Raises InvalidInput for another size or type."""
        if picture.dtype != np.uint8 or picture.shape != (self._size[1], self._size[0], 3):
            expected = f"uint8 {(self._size[1], self._size[0], 3)}"
            raise InvalidInput(f"frame {self.frames} of a film", f"{picture.dtype} {picture.shape}", expected)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = self.frames, Fraction(1, self._rate)
        if key:
            frame.pict_type = av.video.frame.PictureType.I
        self._mux(self._stream.encode(frame))
        self.frames += 1

    def _mux(self, packets: list[Any]) -> None:
        self.bytes += sum(packet.size for packet in packets)
        self._container.mux(packets)

    def __enter__(self) -> Film:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None and self.frames:
            self._mux(self._stream.encode())
        self._container.close()
