"""Pictures of an episode that stay where they are until they are asked for: in a video, in stills, in memory.

A part of a video is decoded from the nearest frame at which decoding can begin, and is equal, picture by picture, to
that part of a decoding from the start: several episodes may lie in one file.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import av
import cv2
import numpy as np

from vap_sim.data.video_file import opened_video, upright_picture
from vap_sim.data.video_index import VideoIndex, picture_size, video_index
from vap_sim.errors import BadFile, InvalidInput

LARGEST_STILL = 2**26
"""Pixels of one still picture."""
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG's start-of-frame segments


@dataclass(frozen=True)
class VideoFootage:
    """A video file, or a part of one: frames `first` to before `last`, or those shown in `seconds` (from, before).

    The file is opened when something is asked of it. A part given in seconds takes the frames nearest to its ends.
    Every question raises BadFile for a file that is missing, no video, cut short, or that ends before the part does.
    """

    path: Path
    first: int = 0
    last: int | None = None
    seconds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        given = f"frames {self.first} to {self.last}, seconds {self.seconds}"
        if self.seconds is not None and ((self.first, self.last) != (0, None) or self.seconds[0] > self.seconds[1]):
            raise InvalidInput(f"part of {self.path}", given, "either frames or seconds, the first before the last")
        if self.first < 0 or (self.last is not None and self.last < self.first):
            raise InvalidInput(f"part of {self.path}", given, "frames from 0 on, the first before the last")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) [px], of the upright picture."""
        return picture_size(self.path)

    @property
    def length(self) -> int:
        """Number of frames."""
        first, last = self._part(video_index(self.path))
        return last - first

    @property
    def times(self) -> np.ndarray:
        """When each frame is shown (T,) [s], by the clock of the file. Raises BadFile where the file states none."""
        index = video_index(self.path)
        if not index.timed:
            raise BadFile(self.path, "states no times for its frames")
        first, last = self._part(index)
        return index.times[first:last] * index.tick

    def frames(self, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
        """Pictures (H, W, 3) uint8 RGB from `first` to before `last` of this part. Raises BadFile, InvalidInput."""
        index = video_index(self.path)
        start, end = self._part(index)
        first, last = _range(str(self.path), end - start, first, last)
        return self._decoded(index, start + first, start + last)

    def _part(self, index: VideoIndex) -> tuple[int, int]:
        if self.seconds is None:
            first, last = self.first, index.length if self.last is None else self.last
        elif index.timed:
            first, last = index.between(*self.seconds)
        else:
            raise BadFile(self.path, "states no times for its frames, so that no part of it can be found by seconds")
        if last > index.length or first > last:
            raise BadFile(self.path, f"has {index.length} frames, expected frames {first} to {last}")
        return first, last

    def _decoded(self, index: VideoIndex, first: int, last: int) -> Iterator[np.ndarray]:
        """Frames of the file by their numbers; every one of them, or BadFile."""
        expected = first
        with closing(self._from_key(index, first)) as numbered:
            while expected < last:
                number, picture = next(numbered, (last, None))
                if number < expected:
                    continue
                if number > expected or picture is None:
                    raise BadFile(self.path, f"frame {expected} cannot be decoded")
                yield upright_picture(picture)
                expected += 1

    def _from_key(self, index: VideoIndex, first: int) -> Generator[tuple[int, av.VideoFrame], None, None]:
        """Frames with their numbers, from `first` or from one before it."""
        key = index.key_before(first)
        if key:
            with closing(self._from(index, key)) as numbered:
                begin = next(numbered, None)
                # Some containers land behind the frame that was asked for.
                if begin is not None and begin[0] <= first:
                    yield begin
                    yield from numbered
                    return
        yield from self._from(index, 0)

    def _from(self, index: VideoIndex, key: int) -> Generator[tuple[int, av.VideoFrame], None, None]:
        count = key
        with opened_video(self.path) as container:
            stream = container.streams.video[0]
            try:
                if key:
                    container.seek(int(index.times[key]), stream=stream)
                for frame in container.decode(stream):
                    if index.timed:
                        count = int(np.searchsorted(index.times, -1 if frame.pts is None else frame.pts))
                    # What leads a key frame that was jumped to may lack the pictures it was made from.
                    if frame.is_corrupt and count >= key:
                        raise BadFile(self.path, f"is damaged at frame {count}")
                    yield count, frame
                    count += 1
            except (av.error.FFmpegError, OSError) as error:
                raise BadFile(self.path, f"is damaged at frame {count} ({error})") from error


@dataclass(frozen=True, eq=False)
class ArrayFootage:
    """Pictures (T, H, W, 3) uint8 RGB that are in memory already, T at least 1. Raises InvalidInput."""

    pictures: np.ndarray

    def __post_init__(self) -> None:
        shape, kind = self.pictures.shape, self.pictures.dtype
        if kind != np.uint8 or self.pictures.ndim != 4 or shape[3] != 3 or not all(shape):
            raise InvalidInput("footage", f"{kind} {shape}", "uint8 (T, H, W, 3), T at least 1")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) [px]."""
        return int(self.pictures.shape[2]), int(self.pictures.shape[1])

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.pictures)

    def frames(self, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
        """Pictures (H, W, 3) uint8 RGB from `first` to before `last`. Raises InvalidInput."""
        first, last = _range("footage", self.length, first, last)
        return iter(self.pictures[first:last])


@dataclass(frozen=True, eq=False)
class ImageFootage:
    """Still pictures, each encoded as JPEG or PNG; one is decoded at a time.

    images: the encoded pictures; anything with a length that gives bytes for a number will do, so that they may be
    read when they are asked for. source: the file they lie in; name: of the field there, for errors.
    """

    images: Sequence[bytes]
    source: Path
    name: str = "pictures"

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) [px] of the first picture, as its header states. Raises BadFile."""
        if not len(self.images):
            raise BadFile(self.source, f"{self.name}: no picture")
        return self._stated_size(0, self.images[0])

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.images)

    def frames(self, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
        """Pictures (H, W, 3) uint8 RGB from `first` to before `last`. Raises BadFile naming the frame, InvalidInput."""
        first, last = _range(f"{self.source}: {self.name}", self.length, first, last)
        return (self._decoded(number) for number in range(first, last))

    def _decoded(self, number: int) -> np.ndarray:
        content = self.images[number]
        size = self._stated_size(number, content)
        if size != self.size:
            self._refuse(number, f"{size[0]}x{size[1]} pixels, the first has {self.size[0]}x{self.size[1]}")
        # With its own depth, so that a picture of distances is not taken for one of colours; not turned, as its
        # neighbours in a recording are not.
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            picture = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        except cv2.error as error:
            self._refuse(number, f"cannot be decoded ({error})")
        if picture is None:
            self._refuse(number, "cannot be decoded: it is damaged")
        if picture.dtype != np.uint8:
            self._refuse(number, f"has {picture.dtype} pixels, expected uint8: it is no picture of colours")
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))

    def _stated_size(self, number: int, content: bytes) -> tuple[int, int]:
        """(width, height), looked up before anything is allocated for the picture."""
        size = stated_size(content)
        if size is None:
            self._refuse(number, "is neither JPEG nor PNG, or has no whole header")
        if not 0 < size[0] * size[1] <= LARGEST_STILL:
            self._refuse(number, f"states {size[0]}x{size[1]} pixels, expected at most {LARGEST_STILL} in all")
        return size

    def _refuse(self, number: int, problem: str) -> NoReturn:
        raise BadFile(self.source, f"{self.name}: frame {number} {problem}")


def stated_size(content: bytes) -> tuple[int, int] | None:
    """(width, height) [px] that the header of a JPEG or a PNG states; None for other content."""
    if content[:8] == _PNG and len(content) >= 24:
        return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    at = 2 if content[:3] == _JPEG else len(content)
    while at + 9 <= len(content) and content[at] == 0xFF:
        if content[at + 1] in _SIZE_MARKERS:
            return int.from_bytes(content[at + 7 : at + 9], "big"), int.from_bytes(content[at + 5 : at + 7], "big")
        filled = content[at + 1] == 0xFF  # any number of these may stand before a segment
        at += 1 if filled else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None


def _range(what: str, length: int, first: int, last: int | None) -> tuple[int, int]:
    """The range with its end filled in. Raises InvalidInput."""
    end = length if last is None else last
    if not 0 <= first <= end <= length:
        raise InvalidInput(f"frames of {what}", f"{first} to {last}", f"a range within its {length} frames")
    return first, end
