"""What runs a network: torch, its compiler, or a copy converted for OpenVINO or ONNX Runtime.

A converted copy is an ONNX model. It is kept beside the weights, since converting takes up to a
minute, under a hash of all that decides it. The file begins with the sha256 of the rest; one that
does not agree with it is made again.

An exported network is one path through the code: what depends on sizes is settled by an example,
and ONNX does not say so. Every size is therefore compared with torch the first time it is seen.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fetch.places import weights_folder

if TYPE_CHECKING:
    from embed.pretrained import PretrainedNetwork

log = logging.getLogger(__name__)

AUTO = "auto"
CONVERTING = {
    "openvino": ("openvino", "onnx", "onnxscript"),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
}
"""Packages that each backend needs which runs a converted copy; both run on a CPU only."""
BACKENDS = ("torch", "compiled", *CONVERTING, AUTO)
LARGEST_ERROR = {"fp32": 1e-3, "bf16": 0.1}
"""How far, relative to the largest value, a copy may be from torch in float32."""
MOST_FIXED = 8
"""Copies for one input size each that a network may have, in memory and on disk."""
FEWEST_SAMPLES, FEWEST_FRAMES = 4000, 100
"""What a network is exported with at least: of one frame, it would be taken for always one."""

Call = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Copy:
    """A converted network that is loaded: the sizes it takes (None: any), and how to call it."""

    sizes: tuple[int | None, ...]
    call: Call

    def takes(self, x: Tensor) -> bool:
        return all(size in (None, n) for size, n in zip(self.sizes, x.shape, strict=True))


def check_backend(backend: str, precision: str, device: str) -> None:
    """Raise a ValueError if a backend cannot run here, or not like this."""
    if backend not in BACKENDS:
        raise ValueError(f"backend is one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend not in CONVERTING:
        return
    if device != "cpu":
        raise ValueError(
            f"backend {backend} runs networks on the CPU only, got device {device}: take "
            "--device cpu, or --backend torch or compiled"
        )
    if absent := _absent(backend):
        raise ValueError(
            f"backend {backend} needs {', '.join(absent)}, not installed here: "
            f"pip install 'anomalous-sound-pipeline[{backend}]'"
        )
    if backend == "onnxruntime" and precision != "fp32":
        raise ValueError(
            f"backend onnxruntime computes in fp32 only, got precision {precision}: take "
            "--backend openvino or torch"
        )
    if not _computes(backend, precision):
        raise ValueError(
            f"backend {backend} computes in fp32 on this CPU, which has no bf16 arithmetic, got "
            f"precision {precision}: take --precision fp32"
        )


def _computes(backend: str, precision: str) -> bool:
    """Say whether an installed backend computes in this precision here, not in a finer one."""
    return precision == "fp32" or (backend == "openvino" and "BF16" in _openvino_capabilities())


@cache
def _openvino_capabilities() -> tuple[str, ...]:
    import openvino

    return tuple(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def fastest(ranking: tuple[str, ...], precision: str, device: str) -> tuple[str, str]:
    """Pick the first backend of a ranking that can run here; say why it was it."""
    if device != "cpu":
        return "torch", "the others run on a CPU or compile anew for every length"
    able = [b for b in ranking if b != "onnxruntime" or precision == "fp32"]
    able = [b for b in able if _absent(b) or _computes(b, precision)]
    installed = [b for b in able if not _absent(b)]
    if not able:
        return "torch", f"no other computes in {precision} on this CPU"
    if not installed:
        extras = " or ".join(f"'anomalous-sound-pipeline[{b}]'" for b in able)
        return "torch", f"no faster one is installed, pip install {extras}"
    if installed[0] != able[0]:
        extra = f"'anomalous-sound-pipeline[{able[0]}]'"
        return installed[0], f"{able[0]} is usually faster, pip install {extra}"
    return installed[0], f"usually the fastest on a CPU in {precision}"


def _absent(backend: str) -> list[str]:
    return [name for name in CONVERTING[backend] if find_spec(name) is None]


def runner(network: nn.Module, encoder: PretrainedNetwork) -> Callable[..., Tensor]:
    """Return what computes `network(tensor, *ints)` on the encoder's backend and device."""
    if encoder.backend == "compiled":
        compiled: Callable[..., Tensor] = torch.compile(network, options={"freezing": True})
        return compiled
    return Converted(network, encoder) if encoder.backend in CONVERTING else network


class Converted:
    """A network's converted copies: for each value of its ints one for any size, if it can be.

    A size (all but the batch's, of which one clip and more are two) is compared with torch when
    it is first seen. Where the copy for any size is not right, that size gets a copy of its own.
    """

    def __init__(self, network: nn.Module, encoder: PretrainedNetwork) -> None:
        self._network = network.eval()
        self._encoder = encoder
        self._copies: dict[tuple[Any, ...], Copy] = {}
        self._failures: dict[tuple[Any, ...], str] = {}
        self._right: dict[tuple[Any, ...], tuple[Copy, torch.Size]] = {}
        self._lock = Lock()

    def __call__(self, x: Tensor, *ints: int) -> Tensor:
        seen = (ints, min(len(x), 2), *x.shape[1:])
        copy, shape = self._right.get(seen, (None, torch.Size()))
        if copy is not None and copy.takes(x):
            return self._run(copy, x, shape)
        with self._lock:
            copy, result = self._compared(x, ints)
            self._right[seen] = copy, result.shape[1:]
        return result

    def _compared(self, x: Tensor, ints: tuple[int, ...]) -> tuple[Copy, Tensor]:
        """Return the copy that gives what torch gives for `x`, and what it gives."""
        with torch.no_grad(), self._in_one_line(but=(ValueError,)):  # which are the network's own
            expected = self._network(x, *ints)
        try:
            return self._agreeing(x, ints, (), expected)
        except ValueError:
            return self._agreeing(x, ints, tuple(x.shape), expected)

    def _agreeing(
        self, x: Tensor, ints: tuple[int, ...], shape: tuple[int, ...], expected: Tensor
    ) -> tuple[Copy, Tensor]:
        copy = self._copy(x, ints, shape)
        result = self._run(copy, x, expected.shape[1:])
        off = ((result - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()
        if not off <= (largest := LARGEST_ERROR[self._encoder.precision]):
            raise ValueError(
                f"{self._what} is {off:.1e} of the largest value off torch's result, "
                f"at most {largest:.0e} is right: take --backend torch"
            )
        return copy, result

    def _run(self, copy: Copy, x: Tensor, shape: torch.Size) -> Tensor:
        """Compute `(len(x), *shape)`; anything else is a ValueError."""
        if not copy.takes(x):
            raise ValueError(
                f"{self._what} takes inputs {copy.sizes}, got {tuple(x.shape)}: take "
                "--backend torch"
            )
        with self._in_one_line():
            result = torch.from_numpy(copy.call(x.detach().contiguous().numpy()))
        if result.shape != (len(x), *shape):
            raise ValueError(
                f"{self._what} gave {tuple(result.shape)}, expected {(len(x), *shape)}: take "
                "--backend torch"
            )
        return result

    @contextmanager
    def _in_one_line(
        self, what: str = "failed", *, but: tuple[type[Exception], ...] = ()
    ) -> Iterator[None]:
        """Say which network failed, and what to do; the libraries raise what they like."""
        passing: tuple[type[Exception], ...] = (torch.OutOfMemoryError, MemoryError, *but)
        try:
            yield
        except passing:
            raise
        except Exception as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"{self._what} {what}, take --backend torch: {why}") from error

    @property
    def _what(self) -> str:
        return f"the network of {self._encoder.registered_name} for {self._encoder.backend}"

    def _copy(self, x: Tensor, ints: tuple[int, ...], shape: tuple[int, ...]) -> Copy:
        """Load a copy for one shape, or for any; what fails once is not tried again."""
        if (ints, shape) in self._failures:
            raise ValueError(self._failures[ints, shape])
        if (ints, shape) not in self._copies:
            path = self._path(ints, shape)
            try:
                model = _read(path)
                if model is None:
                    model = self._convert_once(x, ints, shape, path)
                start = {"openvino": _openvino, "onnxruntime": _onnxruntime}[self._encoder.backend]
                with self._in_one_line("cannot be loaded"):
                    self._copies[ints, shape] = start(model, self._encoder.precision)
            except ValueError as error:
                self._failures[ints, shape] = str(error)
                raise
        return self._copies[ints, shape]

    def _path(self, ints: tuple[int, ...], shape: tuple[int, ...]) -> Path:
        """Name the file of a copy; raise where there are many of the network's sizes already."""
        folder = weights_folder(self._encoder.registered_name) / "converted"
        name = _identity(self._network, self._encoder, ints)
        path = folder / f"{'-'.join([name, *map(str, shape)])}.converted"
        loaded = sum(bool(other) for _, other in self._copies)
        kept = {*folder.glob(f"{name}-*.converted")} - {path}
        if shape and max(loaded, len(kept)) >= MOST_FIXED:
            raise ValueError(
                f"{self._what} needs a copy for each size of its input and has {MOST_FIXED}, in "
                f"{folder}: take --backend torch"
            )
        return path

    def _convert_once(
        self, x: Tensor, ints: tuple[int, ...], shape: tuple[int, ...], path: Path
    ) -> bytes:
        """Convert while other processes wait; they find the file that this one leaves."""
        from filelock import FileLock

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_name(".lock"))
            lock.acquire()
        except OSError as error:
            log.warning(
                "%s cannot be written (%s): the converted network is not kept, and every run "
                "converts it again",
                path.parent,
                error.strerror or error,
            )
            return self._convert(x, ints, shape, "for this run")
        try:
            model = _read(path)
            if model is None:
                model = self._convert(x, ints, shape, f"once, kept in {path.parent}")
                _write(path, model)
        finally:
            lock.release()
        return model

    def _convert(self, x: Tensor, ints: tuple[int, ...], shape: tuple[int, ...], how: str) -> bytes:
        which = f" and inputs {shape}" if shape else ""
        log.info("converting %s%s, %s: up to a minute", self._what, which, how)
        with self._in_one_line("cannot be made"):
            return to_onnx(self._network, ints, x, fixed=bool(shape))


class _WithInts(nn.Module):
    """A network whose ints are given."""

    def __init__(self, network: nn.Module, ints: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.ints = ints

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x, *self.ints)
        return y


def to_onnx(network: nn.Module, ints: tuple[int, ...], x: Tensor, *, fixed: bool) -> bytes:
    """Write `network(x, *ints)` as an ONNX model for x of any size, or of x's where `fixed`.

    The last of three or more dimensions is always that of `x`; of `fixed` ones only a batch of
    more than one may be another.
    """
    if fixed:
        return _export(network, ints, tuple(x.shape), {0} if len(x) > 1 else set())[0]
    free = {i for i in range(x.ndim) if i == 0 or i < x.ndim - (x.ndim > 2)}
    own = (max(2, len(x)), *x.shape[1:])  # of one, it would be taken for always one
    fewest = FEWEST_SAMPLES if x.ndim == 2 else FEWEST_FRAMES
    longer = tuple(
        size * math.ceil(fewest / size) if i in free - {0} else size for i, size in enumerate(own)
    )
    if longer != own:
        with suppress(Exception):  # where the network takes no other size than x's
            model, sizes = _export(network, ints, longer, free)
            if all(size in (None, n) for size, n in zip(sizes, x.shape, strict=True)):
                return model
    return _export(network, ints, own, free)[0]


def _export(
    network: nn.Module, ints: tuple[int, ...], shape: tuple[int, ...], free: set[int]
) -> tuple[bytes, list[int | None]]:
    """Export with zeros of this shape; also return the sizes that came out, None for free."""
    dynamic = (dict.fromkeys(free, torch.export.Dim.AUTO),) if free else None
    with torch.inference_mode(False), torch.no_grad(), _quiet():
        program = torch.export.export(
            _WithInts(network, ints).eval(), (torch.zeros(shape),), dynamic_shapes=dynamic
        )
        model = torch.onnx.export(program, dynamo=True, verbose=False)
        assert model is not None
        proto = model.model_proto
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    for size, dim in zip(shape, dims, strict=True):
        if not dim.dim_param.isidentifier():  # not free: the exporter writes a fixed 5 as a name
            dim.dim_value = size
    sizes = [None if dim.dim_param else dim.dim_value for dim in dims]
    return bytes(proto.SerializeToString()), sizes


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporters say of themselves off the terminal, tracebacks of trials too."""
    names = ("torch.onnx", "torch.export", "torch._subclasses", "onnxscript")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _openvino(model: bytes, precision: str) -> Copy:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "PERFORMANCE_HINT": "LATENCY",  # the loop brings one batch at a time
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # pinned threads wait for whoever else has their core
        },
    )

    def call(x: np.ndarray) -> np.ndarray:
        request = compiled.create_infer_request()  # a used one may give its last result again
        return np.array(request.infer([x], share_inputs=True, share_outputs=True)[0])

    sizes = compiled.input(0).get_partial_shape()
    return Copy(tuple(None if n.is_dynamic else n.get_length() for n in sizes), call)


def _onnxruntime(model: bytes, precision: str) -> Copy:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # torch needs the cores
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]

    def call(x: np.ndarray) -> np.ndarray:
        return session.run(None, {given.name: x})[0]  # type: ignore[no-any-return]

    return Copy(tuple(n if isinstance(n, int) else None for n in given.shape), call)


def _identity(network: nn.Module, encoder: PretrainedNetwork, ints: tuple[int, ...]) -> str:
    """Hash what decides copies of all sizes: tensors, structure, code, options and versions."""
    modules = list(network.named_modules())
    files = {sys.modules[type(module).__module__].__file__ for _, module in modules}
    options = {
        f.name: getattr(encoder, f.name)
        for f in fields(encoder)
        if f.metadata.get("decides_vectors", True)
    }
    facts = {
        "encoder": [type(encoder).__name__, options, encoder.weights_sha256],
        "ints": ints,
        "modules": [
            (
                name,
                type(module).__qualname__,
                {k: v for k, v in vars(module).items() if isinstance(v, int | float | str)},
                module.extra_repr(),
            )
            for name, module in modules
        ],
        "code": sorted(_sha256(Path(file)) for file in {*files, __file__} if file),
        "versions": [
            torch.__version__,
            *map(_version, (*CONVERTING[encoder.backend], "transformers")),
        ],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(path: Path) -> bytes | None:
    """Return the model, or None where there is none that is whole."""
    try:
        with path.open("rb") as file:
            expected, model = file.read(32), file.read()
    except OSError:
        return None
    if hashlib.sha256(model).digest() == expected:
        return model
    log.warning("%s is damaged; it is made again", path)
    return None


def _write(path: Path, model: bytes) -> None:
    """Keep a model under its name once it is whole; a full disk costs a warning only."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(hashlib.sha256(model).digest())
            file.write(model)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        log.warning("%s could not be written (%s): the next run converts again", path, error)
