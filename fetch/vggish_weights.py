"""VGGish's weights: read from a SavedModel or from torchvggish's file, kept as safetensors.

TensorFlow reads a SavedModel's 18 variables once; the safetensors written here need torch alone.
Kernels are transposed from TensorFlow's (height, width, in, out) to torch's (out, in, height,
width), matrices from (in, out) to (out, in). The first matrix still expects its input flattened
as (height, width, channel).
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fetch.checkpoints import hash_of_hashes
from fetch.first_seen import verify_first_seen
from fetch.hashes import known_sha256
from fetch.places import locked, weights_folder
from fetch.reading import check_tensors, read_tensors, refusal
from ground.files import whole_file
from ground.text import one_line

if TYPE_CHECKING:
    from torch import Tensor

CONVERTED = "vggish.safetensors"
LARGEST_MODEL = 1 << 30
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
"""Names of the layers in that release."""
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
    """Say whether a file's tensors have torchvggish's names; a file of `torch.save` must."""
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        return True
    with (
        refusal(f"{path} is not a whole safetensors file; fetch or save it again"),
        safe_open(path, framework="pt") as file,
    ):
        return _torchvggish_name("conv1.weight") in file.keys()  # noqa: SIM118


def converted(folder: Path) -> Path:
    """Return the safetensors of a SavedModel folder, written the first time it is seen.

    They are kept with the published weights, under the hash of the folder's variables.
    """
    sha256 = _variables_sha256(folder)
    target = weights_folder("vggish") / f"savedmodel-{sha256[:16]}.safetensors"
    source = f"the SavedModel with variables {sha256}"
    with locked(target):
        if not target.is_file():
            write(read_saved_model(folder), target, source)
    verify_first_seen(source, known_sha256(target), target)
    return target


def read_archive(archive: Path) -> dict[str, Tensor]:
    """Read the SavedModel in the archive that TensorFlow Hub publishes; ValueError if it is bad."""
    with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=archive.parent) as folder:
        damaged = f"{archive} cannot be unpacked; fetch it again, or delete it"
        with refusal(damaged), tarfile.open(archive) as tar:
            if (size := sum(member.size for member in tar)) > LARGEST_MODEL:
                raise ValueError(f"it unpacks to {size:,} bytes, expected about 300,000,000")
            tar.extractall(folder, filter="data")
        inside = [path.parent.parent for path in Path(folder).rglob("variables/variables.index")]
        return read_saved_model(inside[0] if inside else Path(folder), display_name=archive)


def read_saved_model(folder: Path, display_name: Path | None = None) -> dict[str, Tensor]:
    """Read the 18 variables of a SavedModel with TensorFlow and transpose them for torch.

    `display_name` names the folder in messages.
    """
    import numpy as np
    import torch

    name_shown = display_name or folder
    _check_is_saved_model(folder, name_shown)
    tensorflow = import_extra("tensorflow", f"{name_shown}, a SavedModel,")
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
                    f"{name_shown} is not a SavedModel of VGGish: expected {name} of shape "
                    f"{theirs} as _variables/{i}, found {found}"
                )
            variable = np.asarray(reader.get_tensor(key), dtype=np.float32)
            order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[variable.ndim]
            tensors[name] = torch.from_numpy(variable.transpose(order).copy())
    except (tensorflow.errors.OpError, RuntimeError, IndexError) as error:
        raise ValueError(
            f"TensorFlow cannot read the variables of {name_shown} ({one_line(error)}); "
            "delete it and fetch it again"
        ) from error
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name_shown} holds values that are not finite, first in {name!r}")
    return tensors


def import_extra(module: str, what: str) -> Any:
    """Import a module of the extra; ValueError, which says that `what` needs it, without it."""
    import warnings
    from importlib import import_module

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # or it prints a description of the machine
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


def is_saved_model(folder: Path) -> bool:
    """Say whether a folder has the variables of a SavedModel."""
    return _index(folder).is_file()


def _check_is_saved_model(folder: Path, name_shown: Path) -> None:
    if not is_saved_model(folder):
        raise ValueError(
            f"{name_shown} is not a SavedModel: expected a file variables/variables.index in it; "
            f"--weights for vggish takes a SavedModel folder, safetensors or torchvggish's .pth"
        )


def _variables_sha256(folder: Path) -> str:
    """Hash what holds the variables, as `sha256sum variables.* | sha256sum` does."""
    _check_is_saved_model(folder, folder)
    files = _index(folder).parent.glob("variables.*")
    return hash_of_hashes({file.name: known_sha256(file) for file in files})


def write(tensors: Mapping[str, Tensor], target: Path, source: str) -> None:
    """Write safetensors that name their source, whole or not at all."""
    from safetensors.torch import save_file

    with whole_file(target) as temporary:
        save_file(dict(tensors), temporary, metadata={"source": source})
