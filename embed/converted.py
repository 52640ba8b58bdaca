"""Copies of a network, converted for OpenVINO or ONNX Runtime, that give what torch gives.

A copy is an ONNX model, since both read it. It is kept beside the weights, under a hash of
everything that decides it, because converting takes up to a minute. The file begins with the
sha256 of the rest; a damaged file is written again.

An exported network is one path through the code: the example decides every branch that depends
on a size, and ONNX does not record that. The first input of each size is therefore compared with
torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fetch.places import weights_folder
from fetch.reading import refusal
from ground.files import remove_stale, sha256_of, whole_file
from ground.text import one_line
from ground.versions import installed_version

log = logging.getLogger(__name__)

PACKAGES = {
    "openvino": ("openvino", "onnx", "onnxscript"),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
}
"""Packages that each backend needs which runs a converted copy; both run on a CPU only."""
LARGEST_ERROR = {"fp32": 1e-3, "bf16": 0.1}
"""How far, relative to the largest value, a copy may be from torch in float32."""
MOST_FIXED = 8
"""Copies for one input size each that a network may have, in memory and on disk."""
FEWEST_SAMPLES, FEWEST_FRAMES = 4000, 100
"""Least size of the example for an export; a size of one would become a constant."""

Call = Callable[[np.ndarray], list[np.ndarray]]
Shapes = list[torch.Size]


class Settings(Protocol):
    """The options and facts of an encoder, a dataclass, that decide how its network runs."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def registered_name(self) -> str: ...
    @property
    def backend(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def weights_sha256(self) -> str: ...


@dataclass(frozen=True)
class Copy:
    """A converted network that is loaded: the input sizes it takes (None: any), and its call."""

    sizes: tuple[int | None, ...]
    call: Call

    def takes(self, x: Tensor) -> bool:
        return all(size in (None, n) for size, n in zip(self.sizes, x.shape, strict=True))


class Converted:
    """A network's converted copies: one for any size of its input, where that is possible.

    The network returns a tensor or a tuple of them. There is one copy for each value of its ints.
    The first input of each size is compared with torch; one clip and several clips count as two
    sizes. Where the copy for any size is not right, that size gets a copy of its own.
    """

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        self._network = network.eval()
        self._settings = settings
        self._copies: dict[tuple[Any, ...], Copy] = {}
        self._failures: dict[tuple[Any, ...], str] = {}
        self._right: dict[tuple[Any, ...], tuple[Copy, Shapes]] = {}
        self._lock = Lock()
        self._gives_several = False

    def __call__(self, x: Tensor, *ints: int) -> Tensor | tuple[Tensor, ...]:
        seen = (ints, min(len(x), 2), *x.shape[1:])
        copy, shapes = self._right.get(seen, (None, []))
        if copy is not None and copy.takes(x):
            results = self._run(copy, x, shapes)
        else:
            with self._lock:
                copy, results = self._compared(x, ints)
                self._right[seen] = copy, [result.shape[1:] for result in results]
        return tuple(results) if self._gives_several else results[0]

    def _compared(self, x: Tensor, ints: tuple[int, ...]) -> tuple[Copy, list[Tensor]]:
        """Return the copy whose results for `x` are those of torch, and the results."""
        with torch.no_grad(), self._in_one_line(but=(ValueError,)):  # the network's own messages
            output = self._network(x, *ints)
        self._gives_several = isinstance(output, tuple)
        expected = list(output) if self._gives_several else [output]
        try:
            return self._agreeing(x, ints, (), expected)
        except ValueError:
            return self._agreeing(x, ints, tuple(x.shape), expected)

    def _agreeing(
        self, x: Tensor, ints: tuple[int, ...], shape: tuple[int, ...], expected: list[Tensor]
    ) -> tuple[Copy, list[Tensor]]:
        copy = self._copy(x, ints, shape)
        results = self._run(copy, x, [each.shape[1:] for each in expected])
        off = float(np.max([*map(_difference, results, expected)]))  # NaN stays NaN
        if not off <= (largest := LARGEST_ERROR[self._settings.precision]):
            raise ValueError(
                f"{self._what} is {off:.1e} of the largest value off torch's result, "
                f"at most {largest:.0e} is right: take --backend torch"
            )
        return copy, results

    def _run(self, copy: Copy, x: Tensor, shapes: Shapes) -> list[Tensor]:
        """Compute one `(len(x), *shape)` per shape; anything else is a ValueError."""
        if not copy.takes(x):
            raise ValueError(
                f"{self._what} takes inputs {copy.sizes}, got {tuple(x.shape)}: take "
                "--backend torch"
            )
        with self._in_one_line():
            arrays = copy.call(x.detach().contiguous().numpy())
            results = [torch.from_numpy(array) for array in arrays]
        given = [tuple(result.shape) for result in results]
        if given != (expected := [(len(x), *shape) for shape in shapes]):
            raise ValueError(
                f"{self._what} gave {given}, expected {expected}: take --backend torch"
            )
        return results

    def _in_one_line(
        self, what: str = "failed", *, but: tuple[type[Exception], ...] = ()
    ) -> AbstractContextManager[None]:
        """Say which network failed, and what to do; too little memory stays what it is."""
        passing: tuple[type[Exception], ...] = (torch.OutOfMemoryError, MemoryError, *but)
        return refusal(f"{self._what} {what}, take --backend torch", but=passing)

    @property
    def _what(self) -> str:
        return f"the network of {self._settings.registered_name} for {self._settings.backend}"

    def _copy(self, x: Tensor, ints: tuple[int, ...], shape: tuple[int, ...]) -> Copy:
        """Load a copy for one shape, or for any; a failure is remembered and raised again."""
        if (ints, shape) in self._failures:
            raise ValueError(self._failures[ints, shape])
        if (ints, shape) not in self._copies:
            path = self._path(ints, shape)
            try:
                model = _read(path)
                if model is None:
                    model = self._convert_once(x, ints, shape, path)
                start = {"openvino": _openvino, "onnxruntime": _onnxruntime}[self._settings.backend]
                with self._in_one_line("cannot be loaded"):
                    self._copies[ints, shape] = start(model, self._settings.precision)
            except ValueError as error:
                self._failures[ints, shape] = str(error)
                raise
        return self._copies[ints, shape]

    def _path(self, ints: tuple[int, ...], shape: tuple[int, ...]) -> Path:
        """Name the file of a copy; ValueError if there are copies of many sizes already."""
        folder = weights_folder(self._settings.registered_name) / "converted"
        name = _hash_of_copies(self._network, self._settings, ints)
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
        """Convert while other processes wait; they then read the file that this one writes."""
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
    """A network with fixed ints."""

    def __init__(self, network: nn.Module, ints: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.ints = ints

    def forward(self, x: Tensor) -> Any:
        return self.network(x, *self.ints)


def _difference(result: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest expected value."""
    scale = expected.abs().max().clamp(min=1e-30)
    return float((result - expected).abs().max() / scale)


def to_onnx(network: nn.Module, ints: tuple[int, ...], x: Tensor, *, fixed: bool) -> bytes:
    """Convert `network(x, *ints)` to an ONNX model for any size of x, or for its size if `fixed`.

    The last of three or more dimensions always has the size of x's. In a `fixed` model only the
    number of clips may differ, if x has more than one.
    """
    if fixed:
        return _export(network, ints, tuple(x.shape), {0} if len(x) > 1 else set())[0]
    free = {i for i in range(x.ndim) if i == 0 or i < x.ndim - (x.ndim > 2)}
    own = (max(2, len(x)), *x.shape[1:])  # a size of one would be exported as a constant
    fewest = FEWEST_SAMPLES if x.ndim == 2 else FEWEST_FRAMES
    longer = tuple(
        size * math.ceil(fewest / size) if i in free - {0} else size for i, size in enumerate(own)
    )
    if longer != own:
        with suppress(Exception):  # the network takes no other size than x's
            model, sizes = _export(network, ints, longer, free)
            if all(size in (None, n) for size, n in zip(sizes, x.shape, strict=True)):
                return model
    return _export(network, ints, own, free)[0]


def _export(
    network: nn.Module, ints: tuple[int, ...], shape: tuple[int, ...], free: set[int]
) -> tuple[bytes, list[int | None]]:
    """Export with zeros of this shape; also return the model's input sizes, None for any."""
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
        if not dim.dim_param.isidentifier():  # the exporter writes a fixed 5 as a name
            dim.dim_value = size
    sizes = [None if dim.dim_param else dim.dim_value for dim in dims]
    return bytes(proto.SerializeToString()), sizes


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep messages of the exporters off the terminal, also tracebacks of attempts that fail."""
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
    """Compile an ONNX model by OpenVINO for the CPU."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "PERFORMANCE_HINT": "LATENCY",  # there is one batch at a time
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # a pinned thread waits for other programs on its core
        },
    )

    def call(x: np.ndarray) -> list[np.ndarray]:
        request = compiled.create_infer_request()  # a used one may return its last result again
        results = request.infer([x], share_inputs=True, share_outputs=True)
        return [np.array(results[i]) for i in range(len(compiled.outputs))]

    sizes = compiled.input(0).get_partial_shape()
    return Copy(tuple(None if n.is_dynamic else n.get_length() for n in sizes), call)


def _onnxruntime(model: bytes, precision: str) -> Copy:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    spinning = "session.intra_op.allow_spinning"
    options.add_session_config_entry(spinning, "0")  # torch needs the cores
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    model_input = session.get_inputs()[0]

    def call(x: np.ndarray) -> list[np.ndarray]:
        return session.run(None, {model_input.name: x})  # type: ignore[no-any-return]

    return Copy(tuple(n if isinstance(n, int) else None for n in model_input.shape), call)


def _hash_of_copies(network: nn.Module, settings: Settings, ints: tuple[int, ...]) -> str:
    """Hash everything that decides a copy: tensors, structure, code, options and versions."""
    modules = list(network.named_modules())
    files = {sys.modules[type(module).__module__].__file__ for _, module in modules}
    options = {
        f.name: getattr(settings, f.name)
        for f in fields(settings)
        if f.metadata.get("decides_vectors", True)
    }
    facts = {
        "encoder": [type(settings).__name__, options, settings.weights_sha256],
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
        "code": sorted(sha256_of(Path(file)) for file in {*files, __file__} if file),
        "versions": [
            torch.__version__,
            *map(installed_version, (*PACKAGES[settings.backend], "transformers")),
        ],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


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
    """Write a model whole or not at all; a full disk is only a warning."""
    remove_stale(path.parent)
    try:
        with whole_file(path) as temporary, temporary.open("xb") as file:
            file.write(hashlib.sha256(model).digest())
            file.write(model)
    except OSError as error:
        log.warning(
            "%s could not be written (%s): the next run converts again", path, one_line(error)
        )
