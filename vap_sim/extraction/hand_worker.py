"""A hand detector that runs in another Python environment, in a process of its own; see hand_wire.py for how they
speak.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vap_sim.errors import VAPSimError
from vap_sim.extraction import hand_wire
from vap_sim.extraction.hand_detection import SMALLEST, HandDetection, Picture, box_of
from vap_sim.extraction.hand_search import SearchingDetector

PYTHON_VARIABLE = "VAP_SIM_MEDIAPIPE_PYTHON"
"""Names the interpreter of the environment that mediapipe is installed in."""
MEDIAPIPE = Path(__file__).with_name("hand_mediapipe.py")
_REMEMBERED = 40  # lines of what the process prints
_CHUNK = 2**16


class HandWorkerError(VAPSimError, RuntimeError):
    """The process of a hand detector cannot be started, ended, fell silent, or said what it must not."""


class HandWorker:
    """A running detector: `look` shows it a picture. A context manager; `close` ends the process.

    python: the interpreter of the detector's environment; detector: its file, by default MediaPipe's; options: for the
    file's `open_detector`, plain JSON values; starting, looking: seconds that it may take to be ready and to look at
    one picture.

    Raises HandWorkerError naming interpreter and detector, with the last lines that the process printed.
    """

    def __init__(
        self,
        python: Path | str,
        detector: Path | str = MEDIAPIPE,
        options: Mapping[str, Any] | None = None,
        *,
        starting: float = 120.0,
        looking: float = 60.0,
    ) -> None:
        self.python, self.detector, self._looking = Path(python), Path(detector), looking
        self._options = json.dumps(dict(options or {}), sort_keys=True)
        for path, what in ((self.python, "Python interpreter"), (self.detector, "detector file")):
            if not path.is_file():
                raise HandWorkerError(
                    f"no {what} at {path}; docs/hands.md says how to make the environment of a detector"
                )
        # -I: neither this process's environment variables nor the folder it stands in reach the other interpreter.
        command = [str(self.python), "-I", "-u", hand_wire.__file__, str(self.detector.resolve()), self._options]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            raise HandWorkerError(f"{self.python} cannot be run ({error.strerror})") from error
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        for end in (self._input, self._output):
            os.set_blocking(end, False)
        self._printed: deque[str] = deque(maxlen=_REMEMBERED)
        self._listener = threading.Thread(target=self._listen, args=(self._process.stderr,), daemon=True)
        self._listener.start()
        self._exchange(b"", hand_wire.READY, starting)

    @property
    def name(self) -> str:
        """The detector's file and options."""
        return f"{self.detector.stem} {self._options}"

    def look(self, picture: Picture) -> tuple[HandDetection, ...]:
        """The hands in a picture (H, W, 3) uint8 RGB. Raises HandWorkerError, after which the worker is closed."""
        request = hand_wire.message(hand_wire.PICTURE, hand_wire.pack_picture(picture))
        content = self._exchange(request, hand_wire.HANDS, self._looking)
        try:
            found = hand_wire.unpack_hands(content)
        except hand_wire.BadHandMessage as error:
            raise self._failed(f"sent a message that {error}") from error
        return tuple(
            HandDetection(
                hand["side"],
                hand["score"],
                hand["points"].astype(np.float64),
                None if hand["metres"] is None else hand["metres"].astype(np.float64),
            )
            for hand in found
            if box_of(hand["points"]).size >= SMALLEST
        )

    def close(self) -> None:
        """End the process; nothing happens where it has ended."""
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        try:
            self._process.wait(timeout=2.0)  # the end of its input is its sign to leave
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(timeout=2.0)
        if self._process.stderr is not None and not self._listener.is_alive():
            self._process.stderr.close()

    def __enter__(self) -> HandWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _exchange(self, request: bytes, answer: int, seconds: float) -> bytes:
        """The content of the answer to a request. Raises HandWorkerError."""
        if self._process.returncode is not None:
            raise HandWorkerError(f"the hand detector {self.detector.name} was closed")
        deadline = time.monotonic() + seconds
        try:
            self._send(request, deadline)
            kind, content = hand_wire.read_message(
                lambda count: self._receive(count, deadline), (answer, hand_wire.FAILED)
            )
        except TimeoutError as error:
            raise self._failed(f"did not answer within {seconds:g} s") from error
        except (EOFError, OSError) as error:
            raise self._failed("ended") from error
        except hand_wire.BadHandMessage as error:
            raise self._failed(f"sent a message that {error}") from error
        if kind == hand_wire.FAILED:
            raise self._failed(f"failed with {content.decode('utf-8', 'replace')}")
        return content

    def _send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        with contextlib.suppress(BrokenPipeError):  # why it ended may stand in what it wrote
            while rest:
                self._wait(self._input, selectors.EVENT_WRITE, deadline)
                rest = rest[os.write(self._input, rest[:_CHUNK]) :]

    def _receive(self, count: int, deadline: float) -> bytes:
        """Exactly so many bytes, or fewer where the stream ends."""
        parts = bytearray()
        while len(parts) < count:
            self._wait(self._output, selectors.EVENT_READ, deadline)
            part = os.read(self._output, min(count - len(parts), _CHUNK))
            if not part:
                break
            parts += part
        return bytes(parts)

    @staticmethod
    def _wait(end: int, event: int, deadline: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(end, event)
            if not selector.select(max(deadline - time.monotonic(), 0.0)):
                raise TimeoutError

    def _listen(self, stream: Any) -> None:
        """Keep the last lines of what the process prints, and let it print without end."""
        held = b""
        while part := stream.read(_CHUNK):
            *lines, held = (held + part).split(b"\n")
            self._printed.extend(line.decode("utf-8", "replace")[:300] for line in lines)
            held = held[-_CHUNK:]
        if held:
            self._printed.append(held.decode("utf-8", "replace")[:300])

    def _failed(self, what: str) -> HandWorkerError:
        self._process.kill()
        status = self._process.wait()
        self.close()
        said = "\n".join(f"  {line}" for line in list(self._printed)[-8:] if line.strip())
        ended = f" (exit status {status})" if what == "ended" else ""
        tail = f"; the last it printed:\n{said}" if said else ""
        return HandWorkerError(f"the hand detector {self.detector.name}, run by {self.python}, {what}{ended}{tail}")


@contextlib.contextmanager
def open_mediapipe(python: Path | None = None, *, mirrored: bool = False) -> Iterator[SearchingDetector]:
    """MediaPipe in a process of its own, as a `HandDetector` that searches pictures.

    python: as for `mediapipe_python`; mirrored: the video is a mirror image. Raises HandWorkerError.
    """
    with HandWorker(mediapipe_python(python), options={"mirrored": mirrored}) as worker:
        yield SearchingDetector(worker.look, worker.name)


def mediapipe_python(given: Path | None = None) -> Path:
    """The interpreter of mediapipe's environment: the one given, or the one that the environment variable names.

    Raises HandWorkerError where there is neither.
    """
    named = given if given is not None else os.environ.get(PYTHON_VARIABLE)
    if not named:
        raise HandWorkerError(
            "no environment with mediapipe is named; make one with\n"
            "  python3.11 -m venv hands-env\n"
            "  hands-env/bin/pip install --no-deps -r requirements/mediapipe.txt\n"
            f"and pass --python hands-env/bin/python, or set {PYTHON_VARIABLE}"
        )
    return Path(named)
