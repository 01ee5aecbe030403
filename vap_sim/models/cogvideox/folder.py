"""A CogVideoX folder as diffusers stores it, read with suspicion: configs checked, every tensor accounted for.

Names and shapes of all tensors are compared with the config from the files' headers, before any memory is taken for
them; then diffusers loads. Weights in pickle form are refused: opening one can run code that the file carries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch

from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported
from vap_sim.models.cogvideox.config import CODEC, TRANSFORMER, ModelConfig, build_transformer
from vap_sim.models.cogvideox.stock import stock

SCHEDULERS = ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")
WEIGHTS = "diffusion_pytorch_model"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SHOWN = 5


@dataclass(frozen=True)
class CogVideoXFolder:
    """A folder whose configs are read and fit each other; `open_folder` makes it. Weights are read by its methods."""

    path: Path
    config: ModelConfig

    def transformer(self, dtype: torch.dtype | None = None) -> Any:
        """diffusers' transformer with the folder's weights, on the CPU, in evaluation mode.

        dtype: of its weights; float32 if not given. Raises BadFile that names tensors which are missing, unknown or
        of another shape, and for weights in pickle form.
        """
        shapes = {
            name: tuple(value.shape)
            for name, value in build_transformer(self.config, device="meta").state_dict().items()
        }
        return _load(self.path / "transformer", TRANSFORMER, shapes, dtype)

    def vae(self, dtype: torch.dtype | None = None) -> Any:
        """diffusers' `AutoencoderKLCogVideoX` with the folder's weights. Raises BadFile as `transformer` does."""
        kind = getattr(stock("diffusers"), CODEC)
        folder = self.path / "vae"
        if not self.config.vae:
            raise BadFile(folder / "config.json", "no such file: this folder has no video codec")
        try:
            with torch.device("meta"):
                network = kind(**{name: value for name, value in self.config.vae.items() if not name.startswith("_")})
        except (TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
            raise BadFile(folder / "config.json", f"makes no {CODEC} ({error})") from error
        shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        return _load(folder, CODEC, shapes, dtype)

    def scheduler(self) -> Any:
        """diffusers' noise schedule with the folder's values. Raises BadFile if the folder has none."""
        path = self.path / "scheduler" / "scheduler_config.json"
        if not self.config.scheduler:
            raise BadFile(path, "no such file: this folder has no noise schedule")
        kind = getattr(stock("diffusers"), str(self.config.scheduler["_class_name"]))
        return kind.from_config({k: v for k, v in self.config.scheduler.items() if not k.startswith("_")})


def open_folder(name_or_path: str | Path) -> CogVideoXFolder:
    """Read the configs of a CogVideoX.

    name_or_path: a local folder with `transformer/config.json` and, as far as they are needed, `vae/config.json` and
    `scheduler/scheduler_config.json`; or a name on the hub ("owner/name"), which diffusers downloads into its own
    cache first, safetensors only.

    Raises BadFile for a folder that is missing, is no CogVideoX or contradicts itself; Unsupported for version 1.5.
    """
    folder = Path(name_or_path)
    if not folder.is_dir():
        if isinstance(name_or_path, str) and _HUB_NAME.fullmatch(name_or_path) and not folder.exists():
            folder = _download(name_or_path)
        else:
            raise BadFile(name_or_path, "no such folder, and not a name on the hub like 'THUDM/CogVideoX-5b-I2V'")
    path = folder / "transformer" / "config.json"
    transformer = read_config(path, (TRANSFORMER,))
    if transformer is None:
        found = ", ".join(sorted(item.name for item in folder.iterdir())[:_SHOWN]) or "nothing"
        raise BadFile(folder, f"not a CogVideoX folder: it has no transformer/config.json (it has: {found})")
    vae = read_config(folder / "vae" / "config.json", (CODEC,)) or {}
    scheduler = read_config(folder / "scheduler" / "scheduler_config.json", SCHEDULERS) or {}
    try:
        config = ModelConfig(transformer, vae, scheduler)
    except Unsupported as error:
        raise Unsupported(f"{path}: {error}") from error
    except (InvalidInput, UnknownName) as error:
        raise BadFile(path, str(error)) from error
    return CogVideoXFolder(folder, config)


def _download(name: str) -> Path:
    pipeline = stock("diffusers").DiffusionPipeline
    try:
        return Path(pipeline.download(name, use_safetensors=True))
    except (OSError, ValueError) as error:
        raise BadFile(name, f"is no local folder, and diffusers cannot get it from the hub ({error})") from error


def read_config(path: Path, kinds: tuple[str, ...]) -> dict[str, Any] | None:
    """The values of a config of one of these classes; None where there is no file."""
    if not path.is_file():
        return None
    values = read_json(path)
    kind = values.get("_class_name")
    if kind not in kinds:
        raise BadFile(path, f"field '_class_name' is {kind!r}, expected {' or '.join(kinds)}")
    return values


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds. Raises BadFile."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(path, f"is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise BadFile(path, f"is a {type(values).__name__}, expected an object")
    return values


def _load(folder: Path, kind: str, expected: Mapping[str, tuple[int, ...]], dtype: torch.dtype | None) -> Any:
    compare_shapes(folder, tensor_shapes(folder), expected)
    try:
        # Read with the class's own loader, which knows shards; the network is not asked, whatever the files name.
        network = getattr(stock("diffusers"), kind).from_pretrained(
            folder, torch_dtype=dtype or torch.float32, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise BadFile(folder, f"diffusers cannot load it ({error})") from error
    return network.eval()


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of the folder's safetensors, from their headers."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        if not path.is_file():
            raise BadFile(path, "no such file, though the index names it")
        try:
            with safetensors.safe_open(path, "pt") as file:
                found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError) as error:
            raise BadFile(path, f"not a whole safetensors file ({error})") from error
        twice = found.keys() & shapes.keys()
        if twice:
            raise BadFile(path, f"tensor {min(twice)!r} is in another file of the set too")
        shapes |= found
    return shapes


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, shards in order. Raises BadFile."""
    index = folder / f"{WEIGHTS}.safetensors.index.json"
    if index.is_file():
        named = read_json(index).get("weight_map")
        if not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
            raise BadFile(index, "field 'weight_map' is not an object of file names")
        files = sorted(set(named.values()))
        for file in files:
            if Path(file).name != file:
                raise BadFile(index, f"field 'weight_map': {file!r} leaves the folder")
        return [folder / file for file in files]
    single = folder / f"{WEIGHTS}.safetensors"
    if single.is_file():
        return [single]
    pickles = [item for item in sorted(folder.iterdir()) if item.suffix in _PICKLES] if folder.is_dir() else []
    if pickles:
        raise BadFile(
            pickles[0],
            "weights in pickle form are refused, because opening one can run code that it carries; "
            f"save the model again with safe_serialization=True, as {single.name}",
        )
    raise BadFile(single, "no such weights file, and no index of shards beside it")


def compare_shapes(folder: Path, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise BadFile that names tensors which are missing, unknown or of another shape."""
    problems = []
    for word, names in (("missing", expected.keys() - found.keys()), ("unknown", found.keys() - expected.keys())):
        if names:
            shown = ", ".join(sorted(names)[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            problems.append(f"{len(names)} tensors are {word}: {shown}")
    other = [name for name in sorted(expected.keys() & found.keys()) if found[name] != expected[name]]
    if other:
        first = other[0]
        problems.append(
            f"{len(other)} tensors have another shape than the config says, first {first}: {found[first]}, "
            f"expected {expected[first]}"
        )
    if problems:
        raise BadFile(folder, "; ".join(problems))
