"""Networks made elsewhere as policies: TorchScript and ONNX files, with a mapping that says what they see and say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.errors import BadFile, MissingDependency, UnknownName
from vap_sim.policies.chunks import ChunkPolicy
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.mapping import NetworkMapping, read_mapping
from vap_sim.policies.policy import Carry, Observations, PolicyFault


@dataclass(frozen=True, eq=False)
class NetworkSource:
    """Decides by a network: `run` takes its inputs by name, float32 with leading axis b, and gives its answer."""

    name: str
    mapping: NetworkMapping
    run: Callable[[Mapping[str, NDArray[np.float32]]], Any]

    def begin(self, keys: NDArray[np.int64], instructions: tuple[str, ...]) -> Carry:
        """Nothing to remember."""
        return {}

    def decide(
        self, obs: Observations, instructions: tuple[str, ...], memory: Carry
    ) -> tuple[NDArray[np.float32], Carry]:
        """Chunks (b, C, A). Raises PolicyFault where the network fails or does not answer with numbers."""
        answer = self.run({item.name: item.of(obs) for item in self.mapping.inputs})
        if not isinstance(answer, np.ndarray) or answer.dtype.kind not in "fiu" or answer.ndim not in (2, 3):
            kind = f"{answer.dtype} {answer.shape}" if isinstance(answer, np.ndarray) else type(answer).__name__
            raise PolicyFault(self.name, f"gave {kind}, expected actions (b, A) or chunks (b, C, A)")
        return self.mapping.chunks(answer), {}


def load_torchscript(
    target: str, context: PolicyContext, *, mapping: Mapping[str, Any] | str | None = None, execute: int | None = None
) -> ChunkPolicy:
    """A TorchScript file, whose forward takes the mapping's inputs in their order and returns one tensor.

    mapping: a dictionary or the name of a JSON file (`mapping.py`); FILE.json where None. A TorchScript file is a
    program of torch's own small language: it computes, and can do little else, yet take it from no stranger. Raises
    BadFile.
    """
    path = Path(target)
    what = read_mapping(f"{target}.json" if mapping is None else mapping)
    if not path.is_file():
        raise BadFile(path, "no such file")
    try:
        module = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise BadFile(path, f"not a TorchScript file ({str(error).splitlines()[0]})") from error
    name = f"torchscript@{path.name}"

    def run(inputs: Mapping[str, NDArray[np.float32]]) -> Any:
        try:
            with torch.no_grad():
                answer = module(*(torch.from_numpy(inputs[item.name]) for item in what.inputs))
        except RuntimeError as error:
            raise PolicyFault(name, f"failed: {str(error).strip().splitlines()[-1][:200]}") from error
        return answer.numpy() if isinstance(answer, torch.Tensor) else answer

    return _policy(name, what, run, context, execute)


def load_onnx(
    target: str, context: PolicyContext, *, mapping: Mapping[str, Any] | str | None = None, execute: int | None = None
) -> ChunkPolicy:
    """An ONNX file whose inputs and output have the mapping's names, run by onnxruntime on the CPU.

    mapping: as for `load_torchscript`. Raises BadFile, MissingDependency without the extra onnx, and UnknownName for an
    input or output that the network does not have.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency("onnxruntime", "onnx") from error
    path = Path(target)
    what = read_mapping(f"{target}.json" if mapping is None else mapping)
    if not path.is_file():
        raise BadFile(path, "no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _onnx_errors(onnxruntime) as error:
        raise BadFile(path, f"not an ONNX file that runs here ({str(error).splitlines()[0][:200]})") from error
    known = [item.name for item in session.get_inputs()]
    for name in (item.name for item in what.inputs):
        if name not in known:
            raise UnknownName(f"input of {path.name}", name, known)
    answers = [item.name for item in session.get_outputs()]
    if what.output not in answers:
        raise UnknownName(f"output of {path.name}", what.output, answers)
    title = f"onnx@{path.name}"

    def run(inputs: Mapping[str, NDArray[np.float32]]) -> Any:
        try:
            return session.run([what.output], dict(inputs))[0]
        except _onnx_errors(onnxruntime) as error:
            raise PolicyFault(title, f"failed: {str(error).strip().splitlines()[-1][:200]}") from error

    return _policy(title, what, run, context, execute)


def _policy(
    name: str, mapping: NetworkMapping, run: Callable[..., Any], context: PolicyContext, execute: int | None
) -> ChunkPolicy:
    return ChunkPolicy(NetworkSource(name, mapping, run), context.size, mapping.execute if execute is None else execute)


def _onnx_errors(onnxruntime: Any) -> tuple[type[Exception], ...]:
    """Everything onnxruntime raises: its own errors have no common ancestor of their own."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    own = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*own, RuntimeError, ValueError)
