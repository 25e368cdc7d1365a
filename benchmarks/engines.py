"""Ways to run an exported network on a CPU, with what is installed here."""

import copy
import importlib
import importlib.util
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import fields
from pipeline.grids import Grid
from pipeline.network import UNet

Run = Callable[[Tensor], Tensor]
"""Maps the image that a tile reads to the output of the tile, or of all that it reads."""
CHOSEN = "prepared"
"""The way that `predict` takes."""
LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}


@dataclass(frozen=True, slots=True)
class Mode:
    """How many threads work on a tile, and how many tiles are worked on at once."""

    name: str
    threads: int
    at_once: int


@dataclass(frozen=True, slots=True)
class Setup:
    """What a way to run a network is made from; `image` is like all that it will see."""

    network: nn.Module
    image: Tensor
    mode: Mode


def _compiled(setup: Setup) -> Run:
    compiled: Run = torch.compile(setup.network, dynamic=False)
    return compiled


def _frozen(setup: Setup) -> Run:
    return _quietly(lambda: torch.jit.freeze(_traced(setup)))


def _optimised(setup: Setup) -> Run:
    return _quietly(lambda: torch.jit.optimize_for_inference(_traced(setup)))


def _onnx_runtime(setup: Setup) -> Run:
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = setup.mode.threads, 1
    options.enable_cpu_mem_arena = False  # or a tile's memory is never given back to the others
    with tempfile.TemporaryDirectory(prefix="equiscope-inference-") as folder:
        path = Path(folder) / "network.onnx"
        _quietly(lambda: torch.onnx.export(setup.network, (setup.image,), path, verbose=False))
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: torch.from_numpy(session.run(None, {name: image.numpy()})[0])


def _openvino(setup: Setup) -> Run:
    openvino = importlib.import_module("openvino")
    shape = tuple(setup.image.shape)
    model = openvino.convert_model(_traced(setup), example_input=setup.image, input=[shape])
    properties = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": setup.mode.threads * setup.mode.at_once,
        "NUM_STREAMS": setup.mode.at_once,
    }
    compiled = openvino.Core().compile_model(model, "CPU", properties)
    return lambda image: torch.from_numpy(compiled.create_infer_request().infer([image.numpy()])[0])


def _traced(setup: Setup) -> torch.jit.ScriptModule:
    with torch.no_grad():
        traced: torch.jit.ScriptModule = _quietly(
            lambda: torch.jit.trace(setup.network, setup.image)
        )
    return traced


def _quietly(make: Callable[[], Any]) -> Any:
    """What is made; to trace warns of the check of sides, which it leaves out, and of its age."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


ENGINES: dict[str, Callable[[Setup], Run]] = {
    "torch.compile": _compiled,
    "torch.jit.freeze": _frozen,
    "torch.jit.optimize_for_inference": _optimised,
    "ONNX Runtime": _onnx_runtime,
    "OpenVINO": _openvino,
}
NEEDED = {"ONNX Runtime": ("onnx", "onnxscript", "onnxruntime"), "OpenVINO": ("openvino",)}
"""Packages that Equiscope does not install."""


def missing(engine: str) -> list[str]:
    """What an engine needs that is not here."""
    absent = [name for name in NEEDED.get(engine, ()) if importlib.util.find_spec(name) is None]
    if engine == "torch.compile" and shutil.which("g++") is None:
        absent.append("g++")
    return absent


def ways(network: UNet, grid: Grid, mode: Mode) -> Iterator[tuple[str, Run]]:
    """All ways to run the network that can be tried here, eager first."""
    image = torch.rand(1, 1, *sides(grid))
    channels_last = copy.deepcopy(network)
    for weight in channels_last.parameters():
        if weight.ndim > 1:
            weight.data = weight.data.contiguous(memory_format=LAYOUTS[len(grid.tile)])
    yield "eager", network
    yield "eager, channels last", channels_last
    ready = fields.prepared(network, grid)
    yield CHOSEN, ready
    for name, engine in ENGINES.items():
        if not missing(name):
            yield name, engine(Setup(network, image, mode))
            yield f"{CHOSEN}, {name}", engine(Setup(ready, image, mode))


def sides(grid: Grid) -> tuple[int, ...]:
    """What a tile reads, in voxels along each axis."""
    return tuple(t + 2 * c for t, c in zip(grid.tile, grid.context, strict=True))
