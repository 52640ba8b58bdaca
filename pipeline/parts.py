"""Build the encoder, the pooling and the device that the settings of a job name."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from detect import facts_of
from embed import ENCODERS, POOLINGS, encoder_row, make_encoder, make_pooling
from pipeline.exits import UsageError
from pipeline.names import set_options
from pipeline.screen import say
from pipeline.settings import EmbedSettings, Settings

if TYPE_CHECKING:
    from embed.encoder import Encoder
    from embed.pooling import Pooling


def encoder_class(name: str) -> type[Encoder]:
    """Return the class of an encoder by its name."""
    return encoder_row(name).resolve()  # type: ignore[no-any-return]


def encoder_of(settings: EmbedSettings | Settings, name: str, device: str) -> Encoder:
    """Build an encoder from the flags that it has fields for, and from --set."""
    flags = {
        "weights": _weights_of(settings.weights, name),
        "precision": settings.precision,
        "backend": settings.backend,
        "offline": settings.offline,
    }
    from ground.options import check_options

    cls = encoder_class(name)
    own = {f.name for f in fields(cls)}
    options = {k: v for k, v in flags.items() if k in own}
    texts = frozenset(f.name for f in fields(cls) if f.type == "str")
    options |= set_options(settings.set, "encoder", name, texts)
    try:
        check_options(cls, options, name)
        return make_encoder(name, device=device, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None


def pooling_of(settings: EmbedSettings | Settings, name: str) -> Pooling:
    """Build a pooling from --set."""
    from ground.options import check_options

    options = set_options(settings.set, "pooling", name)
    try:
        check_options(POOLINGS[name].resolve(), options, name)
        return make_pooling(name, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None


def _weights_of(text: str, encoder: str) -> str:
    """Pick an encoder's share of --weights: one value for all, or NAME=VALUE,NAME=VALUE."""
    shares = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    if shares and set(shares) <= set(ENCODERS):
        return shares.get(encoder.partition(":")[0], "")
    return text


def devices_of(settings: EmbedSettings | Settings) -> list[str]:
    """List the devices of --device, or the best one there is."""
    import torch

    if not settings.device:
        return ["cuda" if torch.cuda.is_available() else "cpu"]
    devices = settings.device.split(",")
    for device in devices:
        try:
            kind = torch.device(device).type
        except RuntimeError:
            raise UsageError(f"--device {device}: expected cpu, cuda or cuda:<number>") from None
        if kind not in ("cpu", "cuda"):
            raise UsageError(f"--device {device}: expected cpu, cuda or cuda:<number>")
        if kind == "cuda" and not torch.cuda.is_available():
            raise UsageError(f"--device {device}: torch sees no CUDA device here; try cpu")
    return devices


def weights_for_detectors(
    settings: Settings, detectors: set[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Find the weights of the frozen networks that some detectors hold, where --set names none.

    Returns a path per detector, and why a detector has none; the only detector of a run raises
    instead.
    """
    from fetch.weights import RANDOM, WEIGHTS, find_checkpoint

    handed: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for detector in sorted(detectors):
        network = facts_of(detector).published_network
        if not network or "weights" in set_options(settings.set, "detector", detector):
            continue
        path = _weights_of(settings.weights, network)
        try:
            if path != RANDOM:
                row = WEIGHTS[network]
                path = str(find_checkpoint(path, row, offline=settings.offline).path)
        except (OSError, ValueError) as error:
            if len(detectors) == 1:
                raise
            unusable[detector] = " ".join(str(error).split())
            say("failed", f"{detector}: {unusable[detector]}", "red")
        else:
            handed[detector] = path
    return handed, unusable
