"""Fitted detectors on disk, in formats that cannot run code when opened.

`NAME.skops` holds the scaler and the detector, `NAME.safetensors` the weights of its network.
Loading builds an untrained network of the fitted shape and fills it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from detect import DETECTORS
from detect.detector import Detector, last_step

TRUSTED = frozenset({"detect.scaler.ColumnScaler", "sklearn.tree._tree.Tree"})
"""Types in a saved detector besides skops' own and the registry's; anything else is refused."""
FORGOTTEN = ("history_", "on_epoch")
"""What a rating does not need: log.jsonl has the losses."""


def save_detector(detector: Detector, path: Path) -> list[Path]:
    """Write a fitted detector to `path`.skops and, if it has a network, `path`.safetensors."""
    from safetensors.torch import save_file
    from skops import io

    path.parent.mkdir(parents=True, exist_ok=True)
    whole = copy.copy(detector)
    last = copy.copy(last_step(detector))
    if hasattr(whole, "steps"):
        whole.steps = [*whole.steps[:-1], (whole.steps[-1][0], last)]
    else:
        whole = last
    weights: dict[str, Tensor] = {}
    for name, value in list(vars(last).items()):
        if name in FORGOTTEN:
            vars(last)[name] = None
        elif isinstance(value, nn.Module):
            vars(last)[name] = None
            weights |= {f"{name}/{key}": t.contiguous() for key, t in value.state_dict().items()}
        elif isinstance(value, Tensor):
            vars(last)[name] = None
            weights[name] = value.contiguous()
    written = [path.with_name(f"{path.name}.skops")]
    io.dump(whole, written[0])
    if weights:
        written.append(path.with_name(f"{path.name}.safetensors"))
        save_file(weights, written[1])
    return written


def load_detector(path: Path) -> Detector:
    """Read what `save_detector` wrote to `path`; a type from elsewhere is a ValueError."""
    from safetensors.torch import load_file
    from skops import io

    file = path.with_name(f"{path.name}.skops")
    types = io.get_untrusted_types(file=file)
    ours = TRUSTED.union(row.target.replace(":", ".") for row in DETECTORS.values())
    strangers = [name for name in types if name not in ours]
    if strangers:
        raise ValueError(f"{file} is no detector of ours: it holds {', '.join(strangers[:3])}")
    whole: Any = io.load(file, trusted=types)
    last = last_step(whole)
    weights = path.with_name(f"{path.name}.safetensors")
    if weights.exists():
        tensors = load_file(weights)
        for name, tensor in tensors.items():
            if "/" not in name:
                setattr(last, name, tensor)
        for name, module in last.blank_networks().items():
            own = {k.partition("/")[2]: t for k, t in tensors.items() if k.startswith(f"{name}/")}
            module.load_state_dict(own)
            setattr(last, name, module.eval())
    return whole  # type: ignore[no-any-return]
