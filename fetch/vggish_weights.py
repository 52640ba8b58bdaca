"""VGGish's weights: TensorFlow Hub's, a SavedModel's or torchvggish's, kept as safetensors.

TensorFlow reads a SavedModel's 18 variables once; what is written here needs torch alone. Kernels
turn from TensorFlow's (height, width, in, out) into torch's (out, in, height, width), matrices
from (in, out) into (out, in); the first of them still expects its input flattened as (height,
width, channel).
"""

from __future__ import annotations

import hashlib
import os
import socket
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fetch.download import READ_S, DownloadError, reachable, unobtainable
from fetch.first_seen import verify_first_seen
from fetch.places import is_offline, weights_folder
from fetch.weights import Weights, check_tensors, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

CONVERTED = "vggish.safetensors"
EXTRA = "pip install 'anomalous-sound-pipeline[vggish]'"

CONVOLUTIONS = {
    "conv1": (1, 64),
    "conv2": (64, 128),
    "conv3_1": (128, 256),
    "conv3_2": (256, 256),
    "conv4_1": (256, 512),
    "conv4_2": (512, 512),
}
LINEARS = {"fc1_1": (6 * 4 * 512, 4096), "fc1_2": (4096, 4096), "fc2": (4096, 128)}
TORCHVGGISH = dict(
    zip(
        (*CONVOLUTIONS, *LINEARS),
        (*(f"features.{i}" for i in (0, 3, 6, 8, 11, 13)), *(f"embeddings.{i}" for i in (0, 2, 4))),
        strict=True,
    )
)
"""What that release calls each layer."""
TORCHVGGISH_WARNING = (
    "torchvggish's weights without its final ReLU, PCA and quantisation: other vectors than its own"
)


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """List the tensors that the embedding needs, under the names that files written here have."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (n_in, n_out) in CONVOLUTIONS.items():
        shapes |= {f"{name}.weight": (n_out, n_in, 3, 3), f"{name}.bias": (n_out,)}
    for name, (n_in, n_out) in LINEARS.items():
        shapes |= {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}
    return shapes


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint file, one written here or torchvggish's."""
    tensors = read_tensors(path)
    expected = expected_shapes()
    if is_torchvggish(path):
        theirs = {_torchvggish_name(name): name for name in expected}
        shapes = {their: expected[name] for their, name in theirs.items()}
        check_tensors(tensors, shapes, path, "torchvggish")
        return {name: tensors[their] for their, name in theirs.items()}
    check_tensors(tensors, expected, path, "VGGish")
    return {name: tensors[name] for name in expected}


def _torchvggish_name(name: str) -> str:
    layer, part = name.split(".")
    return f"{TORCHVGGISH[layer]}.{part}"


def is_torchvggish(path: Path) -> bool:
    """Say whether a file's tensors have torchvggish's names; what `torch.save` wrote must."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        return True
    try:
        with safe_open(path, framework="pt") as file:
            return _torchvggish_name("conv1.weight") in file.keys()  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); fetch or save it again"
        ) from error


def converted(folder: Path) -> Path:
    """Return the safetensors of a SavedModel folder, written the first time it is seen.

    They are kept with the published weights, under the hash of the folder's variables.
    """
    sha256 = _variables_sha256(folder)
    target = weights_folder("vggish") / f"savedmodel-{sha256[:16]}.safetensors"
    source = f"the SavedModel with variables {sha256}"
    with _locked(target):
        if not target.is_file():
            _write(read_saved_model(folder), target, source)
    verify_first_seen(source, _sha256(target), target)
    return target


def from_tensorflow_hub(weights: Weights, folder: Path, *, offline: bool, hint: str) -> Path:
    """Return the published weights as safetensors in `folder`; fetch and convert what is missing.

    A SavedModel in TensorFlow Hub's cache and an archive put into `folder` by hand come first.
    """
    target, archive = folder / CONVERTED, folder / weights.files[0].name
    cached = find_in_hub_cache(weights.handles)
    if cached is None and not archive.is_file():
        why = ""
        if is_offline(offline):
            why = "offline was asked for"
        elif not reachable(weights.handles):
            why = "no network"
        if why:
            raise DownloadError(unobtainable(weights.files[0], archive, why, hint))
    with _locked(target):
        if not target.is_file():
            if cached is not None:
                variables = read_saved_model(cached)
            elif archive.is_file():
                variables = _read_archive(archive)
            else:
                variables = read_saved_model(_resolved(weights, archive, hint))
            _write(variables, target, weights.source)
    verify_first_seen(weights.source, _sha256(target), target)
    return target


def find_in_hub_cache(handles: tuple[str, ...]) -> Path | None:
    """Return the SavedModel that another program has fetched under one of these handles."""
    places = os.environ.get("TFHUB_CACHE_DIR") or Path(tempfile.gettempdir()) / "tfhub_modules"
    for handle in handles:
        name = hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()
        if _index(Path(places) / name).is_file():
            return Path(places) / name
    return None


def _resolved(weights: Weights, archive: Path, hint: str) -> Path:
    """Have tensorflow_hub fetch the SavedModel into its own cache."""
    from rich.console import Console

    hub = _import("tensorflow_hub", "TensorFlow Hub's VGGish")
    tensorflow = _import("tensorflow", "TensorFlow Hub's VGGish")
    file = weights.files[0]
    console = Console(stderr=True)
    reasons = []
    for handle in weights.handles:
        try:
            with _stalls_end(), console.status(f"fetching {handle}, {file.about_size}"):
                return Path(hub.resolve(handle))
        except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError) as error:
            reasons.append(f"{handle}: {' '.join(str(error).split())[:200]}")
        except tensorflow.errors.OpError as error:
            reasons.append(f"{handle}: {' '.join(str(error.message).split())[:200]}")
    raise DownloadError(unobtainable(file, archive, "; ".join(reasons), hint))


@contextmanager
def _stalls_end() -> Iterator[None]:
    """Give sockets that nobody gave a time limit one: tensorflow_hub sets none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(READ_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _read_archive(archive: Path) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
        except (tarfile.TarError, EOFError, zlib.error) as error:
            why = " ".join(str(error).split())
            raise ValueError(
                f"{archive} cannot be unpacked ({why}); fetch it again, or delete it"
            ) from error
        inside = [path.parent.parent for path in Path(folder).rglob("variables/variables.index")]
        return read_saved_model(inside[0] if inside else Path(folder), called=archive)


def read_saved_model(folder: Path, called: Path | None = None) -> dict[str, Tensor]:
    """Read the 18 variables of a SavedModel with TensorFlow and turn them into torch's tensors.

    `called` is what messages call the folder.
    """
    import numpy as np
    import torch

    called = called or folder
    _check_is_saved_model(folder, called)
    tensorflow = _import("tensorflow", f"{called}, a SavedModel,")
    tensors = {}
    try:
        reader = tensorflow.train.load_checkpoint(str(_index(folder).with_suffix("")))
        shapes = reader.get_variable_to_shape_map()
        for i, (name, shape) in enumerate(expected_shapes().items()):
            key = f"_variables/{i}/.ATTRIBUTES/VARIABLE_VALUE"
            theirs = (*shape[2:], *shape[1::-1])
            found = tuple(shapes[key]) if key in shapes else "nothing"
            if found != theirs:
                raise ValueError(
                    f"{called} is not a SavedModel of VGGish: expected {name} of shape {theirs} "
                    f"as _variables/{i}, found {found}"
                )
            variable = np.asarray(reader.get_tensor(key), dtype=np.float32)
            order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[variable.ndim]
            tensors[name] = torch.from_numpy(variable.transpose(order).copy())
    except (tensorflow.errors.OpError, RuntimeError, IndexError) as error:
        raise ValueError(
            f"TensorFlow cannot read the variables of {called} ({' '.join(str(error).split())}); "
            "delete it and fetch it again"
        ) from error
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{called} holds values that are not finite, first in {name!r}")
    return tensors


def _import(module: str, what: str) -> Any:
    import warnings
    from importlib import import_module

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else it describes the machine at length
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # tensorflow_hub imports pkg_resources
            return import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{what} is read by TensorFlow, once, and {error.name or module} is not installed "
            f"here: {EXTRA}"
        ) from error


def _index(folder: Path) -> Path:
    return folder / "variables" / "variables.index"


def _check_is_saved_model(folder: Path, called: Path) -> None:
    if not _index(folder).is_file():
        raise ValueError(
            f"{called} is not a SavedModel: expected a file variables/variables.index in it; "
            f"--weights for vggish takes a SavedModel folder, safetensors or torchvggish's .pth"
        )


def _variables_sha256(folder: Path) -> str:
    """Hash what holds the variables, as `sha256sum variables.* | sha256sum` does."""
    _check_is_saved_model(folder, folder)
    files = sorted(_index(folder).parent.glob("variables.*"))
    sums = "".join(f"{_sha256(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(sums.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        yield


def _write(tensors: Mapping[str, Tensor], target: Path, source: str) -> None:
    """Write safetensors whole or not at all."""
    from safetensors.torch import save

    part = target.with_name(f"{target.name}.part")
    with part.open("wb") as file:
        file.write(save(dict(tensors), metadata={"source": source}))
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)
