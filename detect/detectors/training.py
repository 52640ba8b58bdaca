"""Train a network on normal clips; a held-out tenth of them decides when to stop.

Adam, ReduceLROnPlateau and early stopping on the held-out loss; the best weights are put back.
Test clips never come here. Every draw (weights, dropout, held-out clips, order) is seeded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

WATCHED_AT_ONCE = 2**19  # numbers: 4,096 vectors of 128, or 13 images of 313 x 128

MIN_DELTA, PLATEAU_PATIENCE, PLATEAU_FACTOR = 1e-5, 10, 0.5


class DivergedError(ValueError):
    """The loss became NaN or infinite: the network learned nothing that could be used."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """Losses after one pass over the training clips."""

    number: int
    training_loss: float
    held_out_loss: float
    learning_rate: float


class Examples(Protocol):
    """Examples to draw batches from, such as a tensor or `Windows`."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor, /) -> Tensor: ...


Loss = Callable[[nn.Module, Tensor], Tensor]
"""Mean loss of a batch, a scalar."""


class Windows:
    """All windows of `length` frames of every sequence, cut only when a batch asks for them.

    A sequence ends where its NaN begin.
    """

    def __init__(self, sequences: Tensor, length: int) -> None:
        n_clips, n_frames = sequences.shape[:2]  # (n_clips, n_frames, dim)
        per_clip = n_frames - sequences[:, :, 0].isnan().sum(dim=1) - length + 1
        if (shortest := int(per_clip.min()) + length - 1) < length:
            raise ValueError(f"Windows of {length} frames do not fit into {shortest} frames")
        clip = torch.repeat_interleave(torch.arange(n_clips), per_clip)
        before = per_clip.cumsum(0) - per_clip
        self._starts = clip * n_frames + torch.arange(len(clip)) - before[clip]
        self._frames = sequences.reshape(n_clips * n_frames, -1)
        self._offsets = torch.arange(length)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, indices: Tensor, /) -> Tensor:
        return self._frames[self._starts[indices][:, None] + self._offsets]  # (n, length, dim)


def all_windows(clip: Tensor, length: int) -> Tensor:
    """Cut all windows of one clip (n_frames, dim): (n_windows, length, dim)."""
    if len(clip) < length:
        raise ValueError(f"Windows of {length} frames do not fit into {len(clip)} frames")
    return clip.unfold(0, length, 1).transpose(1, 2)


def _themselves(clips: Tensor) -> Examples:
    return clips


@contextmanager
def on_threads(threads: int = 1) -> Iterator[None]:
    """Let torch use so many threads inside.

    Many small operations on several threads wait for each other, for long on a busy machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int, threads: int = 1) -> Iterator[None]:
    """Draw from `seed` inside, on so many threads, and leave the caller's state as it was.

    One thread by default: small networks are no slower, and sums in a fixed order make the
    same weights however many workers share the machine.
    """
    with on_threads(threads), torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def place(device: str = "") -> torch.device:
    """Return where to compute: the device of that name, or the best there is."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def held_out(n_clips: int, seed: int, fraction: float = 0.1) -> tuple[Tensor, Tensor]:
    """Split clip numbers into those to train on and those to watch, at least one of each."""
    if n_clips < 2:
        raise ValueError(f"A network needs 2 training clips, one of them held out; got {n_clips}")
    order = torch.randperm(n_clips, generator=torch.Generator().manual_seed(seed))
    n_watched = max(1, round(n_clips * fraction))
    return order[n_watched:].sort().values, order[:n_watched].sort().values


def train(
    network: nn.Module,
    X: Tensor,
    loss: Loss,
    *,
    seed: int,
    epochs: int = 500,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    patience: int = 20,
    min_delta: float = MIN_DELTA,
    plateau_patience: int = PLATEAU_PATIENCE,
    plateau_factor: float = PLATEAU_FACTOR,
    max_gradient: float | None = None,
    examples: Callable[[Tensor], Examples] = _themselves,
    device: str = "",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Fit `network` to the clips X (n_clips, ...) and leave it in eval mode with its best weights.

    It trains on `device` (the best there is by default) and is on the CPU afterwards. `loss` is the
    mean loss of a batch; `max_gradient` clips the norm of its gradient; `on_epoch` is called after
    every epoch. Returns the losses of all epochs. Training ends when the held-out loss has not
    fallen by `min_delta` for `patience` epochs.

    `examples` turns clips into what a batch is drawn from (`partial(Windows, length=11)`); clips
    are held out before that, so that no clip is on both sides. Clips stay where they are, batches
    move. Raises DivergedError where a loss is not finite.
    """
    if epochs < 1 or batch_size < 1 or learning_rate <= 0:
        raise ValueError(
            "epochs and batch_size are at least 1 and learning_rate is above 0; "
            f"got {epochs}, {batch_size}, {learning_rate}"
        )
    network.to(place(device))
    fit_on, watched = (examples(X[rows]) for rows in held_out(len(X), seed))
    at_once = WATCHED_AT_ONCE // fit_on[torch.tensor([0])].numel()
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, patience=plateau_patience, factor=plateau_factor
    )
    history: list[Epoch] = []
    best, best_epoch = float("inf"), 0
    best_weights = copy.deepcopy(network.state_dict())

    for number in range(1, epochs + 1):
        network.train()
        rate = optimizer.param_groups[0]["lr"]
        batches = _batches(torch.randperm(len(fit_on), generator=order), batch_size)
        total = _take_steps(
            network, (fit_on[rows] for rows in batches), loss, optimizer, max_gradient
        )
        epoch = Epoch(
            number,
            total / len(fit_on),
            mean_loss(network, watched, loss, batch_size=max(batch_size, at_once)),
            rate,
        )
        check_finite(epoch)
        history.append(epoch)
        if on_epoch is not None:
            on_epoch(epoch)
        scheduler.step(epoch.held_out_loss)
        if epoch.held_out_loss < best - min_delta:
            best, best_epoch = epoch.held_out_loss, number
            best_weights = copy.deepcopy(network.state_dict())
        elif number - best_epoch >= patience:
            break

    network.load_state_dict(best_weights)
    network.to("cpu")
    network.eval()
    return history


def _take_steps(
    network: nn.Module,
    batches: Iterable[Tensor],
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    max_gradient: float | None,
) -> float:
    """Take one step per batch; return the sum of the examples' losses."""
    device = next(network.parameters()).device
    total = torch.zeros((), dtype=torch.float64, device=device)
    for batch in batches:
        batch_loss = loss(network, batch.to(device))
        optimizer.zero_grad(set_to_none=True)
        batch_loss.backward()  # type: ignore[no-untyped-call]
        if max_gradient is not None:
            nn.utils.clip_grad_norm_(network.parameters(), max_gradient)
        optimizer.step()
        total += batch_loss.detach() * len(batch)
    return float(total)


def _batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Split; a single example at the end joins the batch before, since BatchNorm needs two."""
    batches = list(torch.split(order, batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@torch.no_grad()
def mean_loss(network: nn.Module, examples: Examples, loss: Loss, *, batch_size: int) -> float:
    """Average the loss over all examples, in eval mode."""
    device = next(network.parameters()).device
    network.eval()
    total = 0.0
    for rows in torch.split(torch.arange(len(examples)), batch_size):
        total += loss(network, examples[rows].to(device)).item() * len(rows)
    return total / len(examples)


def check_finite(epoch: Epoch) -> None:
    """Raise DivergedError if a loss is not a number."""
    for which, value in (("training", epoch.training_loss), ("held-out", epoch.held_out_loss)):
        if not torch.isfinite(torch.tensor(value)):
            raise DivergedError(
                f"The {which} loss is {value} in epoch {epoch.number} at learning rate "
                f"{epoch.learning_rate:g}; lower learning_rate, or scale the input"
            )
