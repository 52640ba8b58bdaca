"""What runs a network: torch, its compiler, or a copy converted for OpenVINO or ONNX Runtime.

A converted copy is an ONNX model. It is kept beside the weights, since converting takes up to a
minute, under a hash of all that decides it. The file begins with the sha256 of the rest; one that
does not agree with it is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from embed.weights import weights_folder

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
"""How far, relative to the largest value, a fresh copy may be from torch in float32."""

Call = Callable[[np.ndarray], np.ndarray]


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


def fastest(ranking: tuple[str, ...], precision: str, device: str) -> tuple[str, str]:
    """Pick the first backend of a ranking that can run here; say why it was it."""
    if device != "cpu":
        return "torch", "the others run on a CPU or compile anew for every length"
    able = [b for b in ranking if b != "onnxruntime" or precision == "fp32"]
    installed = [b for b in able if not _absent(b)]
    if not installed:
        extras = " or ".join(f"'anomalous-sound-pipeline[{b}]'" for b in able)
        return "torch", f"no faster one is installed, pip install {extras}"
    if installed[0] != able[0]:
        extra = f"'anomalous-sound-pipeline[{able[0]}]'"
        return installed[0], f"{able[0]} would be faster, pip install {extra}"
    return installed[0], f"the fastest of all on a CPU in {precision}"


def _absent(backend: str) -> list[str]:
    return [name for name in CONVERTING[backend] if find_spec(name) is None]


def runner(network: nn.Module, encoder: PretrainedNetwork) -> Callable[..., Tensor]:
    """Return what computes `network(tensor, *ints)` on the encoder's backend and device."""
    if encoder.backend == "compiled":
        compiled: Callable[..., Tensor] = torch.compile(network, options={"freezing": True})
        return compiled
    return Converted(network, encoder) if encoder.backend in CONVERTING else network


class Converted:
    """A network's converted copies: one for each value of its ints.

    Sizes may differ from call to call, but for those that the conversion had to fix; then each
    size has a copy of its own.
    """

    def __init__(self, network: nn.Module, encoder: PretrainedNetwork) -> None:
        self._network = network.eval()
        self._encoder = encoder
        self._loaded: dict[tuple[Any, ...], tuple[list[int | None], Call]] = {}
        self._lock = Lock()

    def __call__(self, x: Tensor, *ints: int) -> Tensor:
        return torch.from_numpy(self._copy_for(x, ints)(x.detach().contiguous().numpy()))

    def _copy_for(self, x: Tensor, ints: tuple[int, ...]) -> Call:
        for shape in ((), tuple(x.shape)):
            with self._lock:
                if (ints, shape) not in self._loaded:
                    self._loaded[ints, shape] = self._load(x, ints, shape)
                sizes, call = self._loaded[ints, shape]
            if all(size in (None, n) for size, n in zip(sizes, x.shape, strict=True)):
                return call
        raise ValueError(f"{self._what} takes inputs {sizes}, got {tuple(x.shape)}")

    @property
    def _what(self) -> str:
        return f"the network of {self._encoder.registered_name} for {self._encoder.backend}"

    def _load(
        self, x: Tensor, ints: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[list[int | None], Call]:
        folder = weights_folder(self._encoder.registered_name) / "converted"
        path = folder / f"{_identity(self._network, self._encoder, ints, shape)}.converted"
        model = _read(path)
        if model is None:
            model = self._convert_once(x, ints, shape, path)
        start = {"openvino": _openvino, "onnxruntime": _onnxruntime}[self._encoder.backend]
        return start(model, self._encoder.precision)

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
        """Convert the network, and make sure that the copy computes the same."""
        log.info("converting %s, %s: up to a minute", self._what, how)
        try:
            model = to_onnx(self._network, ints, x, fixed=bool(shape))
        except Exception as error:  # torch's exporters raise what they like
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"{self._what} cannot be made, take --backend torch: {why}") from error
        precision = self._encoder.precision
        start = {"openvino": _openvino, "onnxruntime": _onnxruntime}[self._encoder.backend]
        sizes, call = start(model, precision)
        if all(size in (None, n) for size, n in zip(sizes, x.shape, strict=True)):
            expected = self._network(x, *ints)
            difference = torch.from_numpy(call(x.contiguous().numpy())) - expected
            off = (difference.abs().max() / expected.abs().max().clamp(min=1e-30)).item()
            if not off <= LARGEST_ERROR[precision]:
                raise ValueError(
                    f"{self._what} is {off:.1e} of the largest value off torch's result, "
                    f"at most {LARGEST_ERROR[precision]:.0e} is right: take --backend torch"
                )
        return model


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

    The last of three or more dimensions is always that of `x`.
    """
    shape = list(x.shape)
    if not fixed:
        shape[0] = max(2, shape[0])  # an example of one would be taken for always one
    auto = torch.export.Dim.AUTO
    free = (
        None if fixed else {i: auto for i in range(x.ndim) if i == 0 or i < x.ndim - (x.ndim > 2)}
    )
    with torch.inference_mode(False), torch.no_grad(), _quiet():
        example = torch.zeros(shape)
        program = torch.export.export(
            _WithInts(network, ints).eval(), (example,), dynamic_shapes=(free,) if free else None
        )
        model = torch.onnx.export(program, dynamo=True, verbose=False)
        assert model is not None
        proto = model.model_proto
    for size, dim in zip(shape, proto.graph.input[0].type.tensor_type.shape.dim, strict=True):
        if not dim.dim_param.isidentifier():  # not free: the exporter writes a fixed 5 as a name
            dim.dim_value = size
    return bytes(proto.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' remarks on themselves off the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _openvino(model: bytes, precision: str) -> tuple[list[int | None], Call]:
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
    request, lock = compiled.create_infer_request(), Lock()

    def call(x: np.ndarray) -> np.ndarray:
        with lock:
            return np.array(request.infer([x], share_inputs=True, share_outputs=True)[0])

    sizes = compiled.input(0).get_partial_shape()
    return [None if size.is_dynamic else size.get_length() for size in sizes], call


def _onnxruntime(model: bytes, precision: str) -> tuple[list[int | None], Call]:
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

    return [size if isinstance(size, int) else None for size in given.shape], call


def _identity(
    network: nn.Module, encoder: PretrainedNetwork, ints: tuple[int, ...], shape: tuple[int, ...]
) -> str:
    """Hash all that decides a converted copy: tensors, structure, code, options and versions."""
    modules = list(network.named_modules())
    files = {sys.modules[type(module).__module__].__file__ for _, module in modules}
    options = {
        f.name: getattr(encoder, f.name)
        for f in fields(encoder)
        if f.metadata.get("decides_vectors", True)
    }
    facts = {
        "encoder": [type(encoder).__name__, options, encoder.weights_sha256],
        "call": [ints, shape],
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
        "versions": [torch.__version__, *map(_version, CONVERTING[encoder.backend])],
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
