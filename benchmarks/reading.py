"""How fast recordings are read: every picture of a dataset by our readers, and by plain decoding of the same files.

    python benchmarks/reading.py PATH [PATH ...]

Each episode is read by the reader (its log, its checks, all pictures of all views) and, in turn, by nothing but PyAV,
or OpenCV for stills, which a loop that checks nothing finds in TFRecords. The figure is the reader's processor time
over the plain one's, by episodes, each at its best of the repeats. Without PATH, the real recordings are read where
there are some. DROID samples are read once more as RLDS, their pictures as stills of the size at which DROID publishes
its own. Memory is the highest that the process reached: after the first episode, and how much more after all.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import av
import cv2
import numpy as np

from vap_sim.data.dataset import Dataset, open_dataset
from vap_sim.data.episode import Episode
from vap_sim.data.footage import ImageFootage, VideoFootage
from vap_sim.data.joint_log import real_data_folder
from vap_sim.data.rlds import open_dataset as open_rlds
from vap_sim.data.rlds_record import StoredBytes
from vap_sim.data.tfrecord import masked_crc32c
from vap_sim.errors import BadFile, InvalidInput

BAR = 1.3
REAL = ("droid", "bridge", "bridge_rlds")
STILLS = (320, 180)


@dataclass(frozen=True)
class Figures:
    """Processor seconds of every episode by both ways, the pictures decoded, and the highest memory [MiB]."""

    ours: np.ndarray
    plain: np.ndarray
    pictures: int
    refused: int
    memory: tuple[float, float]

    @property
    def ratios(self) -> np.ndarray:
        """Our time over the plain one, episode by episode."""
        ratios: np.ndarray = self.ours / self.plain
        return ratios


def highest_memory() -> float:
    """MiB that this process held at most so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if platform.system() == "Darwin" else 2**10)


def by_reader(dataset: Dataset, name: str) -> tuple[Episode, int]:
    """One episode, read whole: log, checks and every picture. Raises BadFile."""
    episode = dataset.read(name)
    return episode, sum(picture.shape[0] > 0 for view in episode.views.values() for picture in view.frames())


def plain(episode: Episode) -> Callable[[], int]:
    """A function that decodes the same pictures and does nothing else; it returns their number."""
    jobs: list[Callable[[], int]] = []
    for view in episode.views.values():
        if isinstance(view, VideoFootage):
            jobs.append(partial(plain_video, view.path))
        elif isinstance(view, ImageFootage) and isinstance(view.images, StoredBytes):
            jobs.append(partial(plain_stills, view.images.path, view.images.spans))
        else:
            raise InvalidInput("views to measure", type(view).__name__, "videos, or stills in TFRecords")
    return lambda: sum(job() for job in jobs)


def plain_video(path: Path) -> int:
    """Every frame of a video as RGB, by PyAV alone."""
    with av.open(str(path)) as container:
        return sum(frame.to_ndarray(format="rgb24").shape[0] > 0 for frame in container.decode(video=0))


def plain_stills(path: Path, spans: np.ndarray) -> int:
    """The pictures of one camera by OpenCV alone, from the record that holds them, read in one piece."""
    first, last = int(spans[:, 0].min()), int(spans[:, 1].max())
    with path.open("rb") as file:
        start = next(begin for begin, end in plain_records(path) if begin <= first and last <= end)
        file.seek(start)
        content = np.frombuffer(file.read(last - start), np.uint8)
    count = 0
    for begin, end in spans.tolist():
        picture = cv2.imdecode(content[begin - start : end - start], cv2.IMREAD_COLOR)
        assert picture is not None, "what the reader has decoded"
        count += cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).shape[0] > 0
    return count


def plain_records(path: Path) -> Iterator[tuple[int, int]]:
    """Where each record's data begins and ends, by its lengths alone."""
    with path.open("rb") as file:
        while header := file.read(12):
            (size,) = struct.unpack("<Q", header[:8])
            yield file.tell(), file.tell() + size
            file.seek(size + 4, 1)


def measured(dataset: Dataset, repeats: int) -> Figures:
    """Every episode by both ways in turn, after one of each to warm up. Raises BadFile where none can be read."""
    episodes: dict[str, Callable[[], int]] = {}
    refused = 0
    for name in dataset.names:
        try:
            episodes[name] = plain(dataset.read(name))
        except BadFile:
            refused += 1
    if not episodes:
        raise BadFile(dataset.path, "holds no episode that can be read")
    first = next(iter(episodes))
    by_reader(dataset, first)
    episodes[first]()
    before = highest_memory()
    ours: list[list[float]] = [[] for _ in episodes]
    others: list[list[float]] = [[] for _ in episodes]
    pictures = 0
    for _ in range(repeats):
        for k, (name, decode) in enumerate(episodes.items()):
            began = process_time()
            _, count = by_reader(dataset, name)
            middle = process_time()
            if decode() != count:
                raise BadFile(dataset.path, f"episode {name!r}: plain decoding finds another number of pictures")
            ours[k].append(middle - began)
            others[k].append(process_time() - middle)
            pictures += count
    best = [np.min(np.asarray(seconds), axis=1) for seconds in (ours, others)]
    return Figures(best[0], best[1], pictures // repeats, refused, (before, highest_memory()))


def as_rlds(dataset: Dataset, folder: Path, most: int) -> Dataset:
    """Pictures of the first episodes as an RLDS dataset at the size of DROID's, 320 x 180 JPEG, one shard for all."""
    records, views = [], set()
    for name in dataset.names[:most]:
        episode = dataset.read(name)
        lists = {"steps/is_first": sized(3, sized(1, bytes([1] + [0] * (episode.length - 1))))}
        for view, footage in episode.views.items():
            stills = (cv2.imencode(".jpg", cv2.resize(picture[..., ::-1], STILLS))[1] for picture in footage.frames())
            lists[f"steps/{view}"] = sized(1, b"".join(sized(1, still.tobytes()) for still in stills))
            views.add(view)
        entries = (sized(1, sized(1, key.encode()) + sized(2, values)) for key, values in lists.items())
        records.append(sized(1, b"".join(entries)))
    scalar = {"pythonClassName": "x.Scalar", "tensor": {"shape": {}, "dtype": "bool", "encoding": "none"}}
    image = {"pythonClassName": "x.Image", "image": {"dtype": "uint8", "encodingFormat": "jpeg"}}
    inner = {"is_first": scalar, **dict.fromkeys(sorted(views), image)}
    steps = {"pythonClassName": "x.FeaturesDict", "featuresDict": {"features": inner}}
    sequence = {"pythonClassName": "x.Dataset", "sequence": {"feature": steps}}
    whole = {"pythonClassName": "x.FeaturesDict", "featuresDict": {"features": {"steps": sequence}}}
    (folder / "features.json").write_text(json.dumps(whole))
    splits = [{"name": "all", "shardLengths": [str(len(records))]}]
    (folder / "dataset_info.json").write_text(json.dumps({"name": "stills", "splits": splits}))
    with (folder / "stills-all.tfrecord-00000-of-00001").open("wb") as file:
        for data in records:
            length = struct.pack("<Q", len(data))
            file.write(
                length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))
            )
    return open_rlds(folder, frame_rate=5)


def sized(field: int, content: bytes) -> bytes:
    """A field of a Protocol Buffers message: a byte string or a message."""
    out, value = bytes([field << 3 | 2]), len(content)
    while value >= 128:
        out, value = out + bytes([value % 128 + 128]), value // 128
    return out + bytes([value]) + content


def line(name: str, figures: Figures) -> str:
    low, middle, high = np.percentile(figures.ratios, [25, 50, 75])
    rate, grown = figures.pictures / figures.ours.sum(), figures.memory[1] - figures.memory[0]
    verdict = "pass" if middle <= BAR else "FAIL"
    spread = f"{low:.2f} .. {high:.2f}"
    return (
        f"{name:16}{len(figures.ours):>9}{figures.pictures:>10}{rate:>12.0f}{middle:>10.2f}  {spread:16}"
        f"<= {BAR} {verdict}{figures.memory[0]:>9.0f}{grown:>+8.1f}"
    )


def record(figures: Mapping[str, Figures]) -> dict[str, object]:
    return {
        "processor": platform.processor() or platform.machine(),
        "versions": {"av": av.__version__, "opencv": cv2.__version__},
        "datasets": {
            name: {
                "episodes": len(found.ours), "refused": found.refused, "pictures": found.pictures,
                "ratio": np.percentile(found.ratios, [25, 50, 75]).tolist(), "memory_mib": found.memory,
            }
            for name, found in figures.items()
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="*")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out/reading.json"))
    options = parser.parse_args()
    real = real_data_folder()
    paths = options.paths or ([] if real is None else [real / name for name in REAL])
    if not paths:
        raise InvalidInput("recordings", "none, and no real ones are here", "PATH of a dataset")
    print(f"{'dataset':16}{'episodes':>9}{'pictures':>10}{'pictures/s':>12}{'times':>10}  {'quartiles':16}bar", end="")
    print(f"{'MiB':>16}{'more':>8}")
    figures = {}
    for path in paths:
        figures[str(path.name)] = measured(open_dataset(path), options.repeats)
        print(line(path.name, figures[path.name]), flush=True)
    whole = next((dataset for dataset in map(open_dataset, paths) if dataset.format == "droid_sample"), None)
    if whole is not None:
        with TemporaryDirectory() as folder:
            figures["stills"] = measured(as_rlds(whole, Path(folder), 3), options.repeats)
        print(line("... as RLDS", figures["stills"]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record(figures), indent=1) + "\n")


if __name__ == "__main__":
    main()
