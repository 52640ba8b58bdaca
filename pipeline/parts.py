"""Build the encoders, the poolings and the devices that the settings of a job name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detect import facts_of
from embed import ENCODERS, encoder_row, make_encoder, make_pooling
from ground.registry import split_name
from ground.text import one_line
from pipeline.exits import UsageError
from pipeline.many_machines import LOCAL, check_engine
from pipeline.names import Choice, set_options, value_of
from pipeline.screen import say
from pipeline.settings import EmbedSettings, Settings

if TYPE_CHECKING:
    from embed.encoder import Encoder
    from embed.pooling import Pooling


def encoder_class(name: str) -> type[Encoder]:
    """Return the class of an encoder by its name."""
    return encoder_row(name).resolve()  # type: ignore[no-any-return]


def text_options(name: str) -> frozenset[str]:
    """Name the options of an encoder that are texts, so that no number is read from them."""
    if split_name(name)[0] not in ENCODERS:
        return frozenset()
    return frozenset(f.name for f in fields(encoder_class(name)) if f.type == "str")


def encoder_choices(assignments: Sequence[str], name: str) -> list[Choice]:
    """Choose an encoder with its --set options: once, or once for each of several layers."""
    options = set_options(assignments, "encoder", name, text_options(name))
    layers = layers_in(options.get("layer"))
    if len(layers) < 2 or not _has_layers(name):
        return [Choice(name, tuple(options.items()))]
    return [
        Choice(name, tuple({**options, "layer": layer}.items()), f"{name}.layer={layer}")
        for layer in layers
    ]


def layers_in(value: Any) -> list[Any]:
    """List the layers of an option's value: one, or several such as `4,8,last`."""
    if isinstance(value, str):
        value = tuple(value_of(part.strip()) for part in value.split(","))
    return list(dict.fromkeys(value)) if isinstance(value, tuple) else [value]


def _has_layers(name: str) -> bool:
    from embed.layers import LayeredNetwork

    return issubclass(encoder_class(name), LayeredNetwork)


def encoder_of(settings: EmbedSettings | Settings, encoder: Choice, device: str) -> Encoder:
    """Build an encoder from the flags that it has fields for, and from its own options.

    Raises UsageError for a value that an option cannot have.
    """
    flags = {
        "weights": weights_of(settings.weights, encoder.name),
        "precision": settings.precision,
        "backend": settings.backend,
        "offline": settings.offline,
        "device": device,
    }
    own = {f.name for f in fields(encoder_class(encoder.name))}
    options = {name: value for name, value in flags.items() if name in own}
    try:
        return make_encoder(encoder.name, **{**options, **dict(encoder.options)})
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None


def pooling_of(pooling: Choice) -> Pooling:
    """Build a pooling; UsageError for a value that an option cannot have."""
    try:
        return make_pooling(pooling.name, **dict(pooling.options))
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None


def weights_of(text: str, encoder: str) -> str:
    """Pick an encoder's share of --weights: one value for all, or NAME=VALUE,NAME=VALUE."""
    shares = shares_of(text)
    return shares.get(split_name(encoder)[0], "") if shares else text


def shares_of(text: str) -> dict[str, str]:
    """Split NAME=VALUE,NAME=VALUE; empty for one value that all encoders share."""
    shares = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    return shares if set(shares) <= set(ENCODERS) else {}


def check_embedding(settings: EmbedSettings | Settings) -> None:
    """Raise UsageError for a --device or an --engine that is not here, and for absent --weights."""
    from fetch.weights import RANDOM

    check_engine(settings.engine)
    if settings.device:
        devices_of(settings)
    texts = shares_of(settings.weights).values() or [settings.weights]
    for text in texts:
        if text not in ("", RANDOM) and not Path(text).expanduser().exists():
            raise UsageError(
                f"--weights {text}: no such file or folder; it takes a checkpoint, "
                f"a save_pretrained folder or {RANDOM}"
            )


def devices_of(settings: EmbedSettings | Settings) -> list[str]:
    """List the devices of --device, or the best one there is."""
    import torch

    if not settings.device:
        return ["cuda" if torch.cuda.is_available() else "cpu"]
    is_here = settings.engine == LOCAL  # the machines of a cluster have devices of their own
    if settings.device == "all" and is_here:
        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        if not devices:
            raise UsageError("--device all: torch sees no CUDA device here; try cpu")
        return devices
    devices = ["cuda"] if settings.device == "all" else settings.device.split(",")
    for device in devices:
        if not re.fullmatch(r"(cpu|cuda)(:\d+)?", device):
            raise UsageError(
                f"--device {device}: expected cpu, cuda or cuda:<number>, several of them, or all"
            )
        if is_here and device.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(f"--device {device}: torch sees no CUDA device here; try cpu")
    return devices


def weights_for_detectors(
    settings: Settings, detectors: Iterable[Choice]
) -> tuple[dict[str, str], dict[str, str]]:
    """Find the weights of the frozen networks that some detectors hold, where --set names none.

    Returns a path per detector's name, and per detector without one the reason, which is said. If
    no detector is left, the first one's OSError or ValueError is raised instead.
    """
    from fetch.weights import RANDOM, WEIGHTS, find_checkpoint

    found: dict[str, str] = {}
    errors: dict[str, Exception] = {}
    detectors = list(detectors)
    for detector in dict.fromkeys(detectors):
        network = facts_of(detector.name).published_network
        if not network or "weights" in dict(detector.options):
            continue
        path = weights_of(settings.weights, network)
        try:
            if path != RANDOM:
                path = str(find_checkpoint(path, WEIGHTS[network], offline=settings.offline).path)
            found[detector.name] = path
        except (OSError, ValueError) as error:
            errors[detector.name] = error
            if len(errors) == len({each.name for each in detectors}):
                raise next(iter(errors.values())) from None
            say("failed", f"{detector}: {one_line(error)}", "red")
    return found, {name: one_line(error) for name, error in errors.items()}
