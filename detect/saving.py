"""Fitted detectors on disk, in formats that cannot run code when opened.

`NAME.skops` holds scaler and detector with a format number and the hash of `NAME.safetensors`,
which holds the weights of the detector's own networks. Loading builds untrained networks of the
fitted shape and fills them. A published network is not stored: its folder and the hash of its
weights are, and loading takes it from there or from the folder that the caller names.
"""

from __future__ import annotations

import copy
import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detect import DETECTORS
from detect.detector import Detector, OwnDetector, facts_of_class, last_step
from detect.kept_detector import KeptDetector
from detect.lean_skops import lean_skops, whole_skops
from ground.files import whole_file, write_whole
from ground.text import one_line

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
TRUSTED = frozenset(
    {
        "detect.scaled_detector.ScaledDetector",
        "detect.scaler.ColumnScaler",
        "sklearn.tree._tree.Tree",
        *(row.target.replace(":", ".") for row in DETECTORS.values()),
        "detect.detectors.mahalanobis.Mahalanobis",
    }
)
"""Types in a saved detector besides skops' own; anything else is refused."""
ENDINGS = ("skops", "safetensors")
FORGOTTEN = ("history_", "on_epoch")
"""Attributes that rating does not need; log.jsonl has the losses."""


def keep_detector(detector: Detector, path: Path) -> KeptDetector:
    """Write a fitted detector as `save_detector` does, and return what stands for it in memory."""
    save_detector(detector, path)
    return KeptDetector.of(detector, path)


def save_detector(detector: Detector | KeptDetector, path: Path) -> list[Path]:
    """Write a fitted detector to `path`.skops and, if it trained a network, `path`.safetensors.

    Both appear complete or not at all; OSError where they cannot be written. Returns their paths.
    The files of a kept detector get a second name, or are copied to another file system.
    """
    if isinstance(detector, KeptDetector):
        kept = [_beside(detector.path, ending) for ending in ENDINGS]
        return [_linked(file, _beside(path, file.suffix[1:])) for file in kept if file.exists()]

    skops = lean_skops()
    stripped, weights = _without_networks(detector)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    content = b""
    if weights:  # first, so that a .skops file never names weights that are not there yet
        from safetensors.torch import save

        content = save(weights)
        written.append(_beside(path, "safetensors"))
        write_whole(written[-1], content)
    written.insert(0, _beside(path, "skops"))
    saved = {"format": FORMAT, "weights": _hash_of(content), "detector": stripped}
    write_whole(written[0], skops.dumps(saved))
    return written


def load_detector(
    path: Path,
    weights_of: Callable[[str], str] | None = None,
    trusted_classes: Collection[str] = (),
) -> Detector:
    """Read what `save_detector` wrote to `path`.

    `weights_of` takes the sha256 of a published network's weights and returns the folder that
    holds them, or "" where it has none; then they are looked for where they were when the
    detector was fitted. `trusted_classes` are classes from outside, as `package.module:Class`,
    that the caller trusts: opening a file that names one imports its module. Raises OSError where
    a file is missing, and ValueError, in one line, for a damaged file, a type from elsewhere,
    another format, or weights that are not found.
    """
    file = _beside(path, "skops")
    content = file.read_bytes()
    try:
        saved = _opened(content, {name.replace(":", ".") for name in trusted_classes})
        detector = saved["detector"]
        last = last_step(detector)
        if saved["weights"]:
            _fill_networks(last, _beside(path, "safetensors"), saved["weights"])
    except OSError:
        raise
    except ValueError as error:
        raise ValueError(f"{file} cannot be loaded: {one_line(error)}") from error
    except Exception as error:  # a damaged file raises whatever the reader stumbles over
        raise ValueError(
            f"{file} is damaged, or no detector of ours ({type(error).__name__}: "
            f"{one_line(error)}); fit the detector again"
        ) from error
    if facts_of_class(type(last)).published_network:
        try:
            last.attach_network((weights_of and weights_of(last.weights_sha256_)) or last.weights)
        except ValueError as error:
            raise ValueError(f"{file} cannot be loaded: {one_line(error)}") from error
    return detector  # type: ignore[no-any-return]


def _opened(content: bytes, trusted: Collection[str]) -> dict[str, Any]:
    """Check a .skops file's types and format before and after reading it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("it is compressed, and ours are not")
    for skops in (lean_skops, whole_skops):
        types = skops().get_untrusted_types(data=content)
        unrecognised = [name for name in types if name not in TRUSTED.union(trusted)]
        if not unrecognised:
            break
    else:
        raise ValueError(f"it is no detector of ours: it holds {', '.join(unrecognised[:3])}")
    saved = skops().loads(content, trusted=types)
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        number = saved.get("format") if isinstance(saved, dict) else None
        raise ValueError(
            f"its format is {number}, this version reads {FORMAT}; fit the detector again"
        )
    last = last_step(saved["detector"])
    if not callable(getattr(last, "score_samples", None)):
        raise ValueError(f"it holds a {type(last).__name__} in place of a detector")
    if isinstance(last, OwnDetector):
        last.check_options()
    return saved


def _without_networks(detector: Detector) -> tuple[Any, dict[str, Tensor]]:
    """Copy a detector without networks and tensors, and return the tensors to be stored."""
    last = copy.copy(last_step(detector))
    stripped: Any = last
    if last_step(detector) is not detector:
        stripped = copy.copy(detector)
        stripped.detector = last
    for name in FORGOTTEN:
        if name in vars(last):
            vars(last)[name] = None
    facts = facts_of_class(type(last))
    weights: dict[str, Tensor] = {}
    if facts.trains_network or facts.published_network:  # torch is imported for these only
        weights = _take_tensors(last, last.blank_networks().keys() if facts.trains_network else ())
    return stripped, weights


def _take_tensors(last: Any, stored: Collection[str]) -> dict[str, Tensor]:
    """Remove networks and tensors from a detector; return those to be stored, by name."""
    from torch import Tensor, nn

    weights: dict[str, Tensor] = {}
    for name, value in list(vars(last).items()):
        if isinstance(value, nn.Module):
            vars(last)[name] = None
            if name in stored:
                state = value.state_dict()
                weights |= {f"{name}/{key}": t.contiguous() for key, t in state.items()}
        elif isinstance(value, Tensor):
            vars(last)[name] = None
            weights[name] = value.contiguous()
    return weights


def _fill_networks(last: Any, file: Path, expected_hash: str) -> None:
    """Put the stored tensors and networks back into a detector."""
    import torch
    from safetensors.torch import load

    content = file.read_bytes()
    if _hash_of(content) != expected_hash:
        raise ValueError(f"{file.name} is not the file that was written with it, or is damaged")
    tensors = load(content)
    for name, tensor in tensors.items():
        if "/" not in name:
            setattr(last, name, tensor)
    with torch.device("meta"):  # the shapes only: no memory before they are compared
        networks = last.blank_networks()
    for name, network in networks.items():
        own = {k.partition("/")[2]: t for k, t in tensors.items() if k.startswith(f"{name}/")}
        network.load_state_dict(own, assign=True)
        setattr(last, name, network.eval())


def _linked(source: Path, path: Path) -> Path:
    """Give a file a second name, or copy it where that cannot be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
    return path


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _hash_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if content else ""
