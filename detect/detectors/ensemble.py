"""Train the autoencoders of many machines at once, as one network of batched layers.

Small networks on small batches spend most of their time between kernels. Here the layers of all
machines are stacked, so that one kernel serves them all. Each machine keeps its own clips, order,
dropout, learning rate and early stopping: it learns what it would learn alone, up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data
from torch import Tensor, nn
from torch.optim.adam import adam

from detect.detectors.autoencoder import Autoencoder, build_network, seed_of
from detect.detectors.training import (
    MIN_DELTA,
    PLATEAU_FACTOR,
    PLATEAU_PATIENCE,
    DivergedError,
    Epoch,
    held_out,
    refuse_nan,
    seeded,
)

FASTER_BELOW = 200_000
"""Weights per machine; above, kernels are so long that stacking them gains nothing."""


class BatchedLinear(nn.Module):
    """One linear layer per machine; (n_machines, n, d_in) -> (n_machines, n, d_out)."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach()[None] for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


@dataclass
class Draws:
    """Where each machine's dropout comes from, and how many rows of the batch are its own."""

    generators: list[torch.Generator]
    n_rows: list[int] = field(default_factory=list)


class BatchedDropout(nn.Module):
    """Dropout drawn for each machine as it would be drawn for it alone."""

    def __init__(self, p: float, draws: Draws) -> None:
        super().__init__()
        self.p = p
        self.draws = draws

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = torch.zeros_like(x)
        for machine, (generator, n) in enumerate(
            zip(self.draws.generators, self.draws.n_rows, strict=True)
        ):
            if n:
                kept[machine, :n].bernoulli_(1 - self.p, generator=generator)
        return x * (kept / (1 - self.p))


def stacked(networks: Sequence[nn.Module], draws: Draws) -> nn.Module:
    """Copy the first network with every layer replaced by that layer of all of them."""
    twin = copy.deepcopy(networks[0])
    for name, layer in list(twin.named_modules()):
        of_all = [network.get_submodule(name) for network in networks]
        if isinstance(layer, nn.Linear):
            twin.set_submodule(name, BatchedLinear(of_all))  # type: ignore[arg-type]
        elif isinstance(layer, nn.Dropout):
            twin.set_submodule(name, BatchedDropout(layer.p, draws))
        elif next(layer.parameters(recurse=False), None) is not None:
            raise ValueError(
                f"Networks of machines cannot be stacked over a {type(layer).__name__}"
            )
    return twin


def unstacked(twin: nn.Module, machine: int, network: nn.Module) -> None:
    """Put one machine's layers of the stack back into its own network."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear):
            batched = twin.get_submodule(name)
            with torch.no_grad():
                layer.weight.copy_(batched.weight[machine].T)  # type: ignore[index]
                layer.bias.copy_(batched.bias[machine, 0])  # type: ignore[index]


def together_is_faster(estimator: Any, dim: int, n_machines: int) -> bool:
    """Tell whether stacking pays for this detector, vectors of this width and so many machines."""
    if not isinstance(estimator, Autoencoder) or n_machines < 2:
        return False
    with seeded(0):
        network = build_network(estimator.network, dim)
    return sum(p.numel() for p in network.parameters()) < FASTER_BELOW


def fit_together(estimators: Sequence[Autoencoder], clips: Sequence[NDArray[Any]]) -> None:
    """Fit each estimator to its clips (n_i, dim), as its own `fit` would.

    They share their options, seed included. Raises DivergedError naming the machine's position
    if a loss is NaN.
    """
    first = estimators[0]
    if any(one.get_params() != first.get_params() for one in estimators):
        raise ValueError("Autoencoders are fitted together only if their options are equal")
    data = [
        torch.tensor(
            validate_data(one, X, dtype=np.float64, ensure_min_samples=2), dtype=torch.float32
        )
        for one, X in zip(estimators, clips, strict=True)
    ]
    if len({X.shape[1] for X in data}) != 1:
        raise ValueError(f"Vectors differ in width: {sorted({X.shape[1] for X in data})}")
    seed = seed_of(first.random_state)
    generators = []
    for one, X in zip(estimators, data, strict=True):
        with seeded(seed):
            one.network_ = build_network(first.network, X.shape[1])
            generators.append(torch.Generator().manual_seed(seed))
            generators[-1].set_state(torch.get_rng_state())  # as far as the weights drew
    with seeded(seed):
        histories = _Training(first, [one.network_ for one in estimators], data, generators).run()
    for one, history in zip(estimators, histories, strict=True):
        one.history_ = history
        one.network_.eval()


@dataclass
class _Machine:
    """One machine's own state of training."""

    number: int
    network: nn.Module
    fit_on: Tensor
    watched: Tensor
    order: torch.Generator
    dropout: torch.Generator
    learning_rate: float
    steps: int = 0
    bad_epochs: int = 0
    plateau_best: float = float("inf")
    best: float = float("inf")
    best_epoch: int = 0
    history: list[Epoch] = field(default_factory=list)


class _Training:
    """The loop of `training.train`, over a stack whose machines leave when they stop."""

    def __init__(
        self,
        options: Autoencoder,
        networks: Sequence[nn.Module],
        data: Sequence[Tensor],
        dropout: Sequence[torch.Generator],
    ) -> None:
        self.options = options
        seed = seed_of(options.random_state)
        self.machines = []
        for number, (network, X) in enumerate(zip(networks, data, strict=True)):
            fit_on, watched = held_out(len(X), seed)
            order = torch.Generator().manual_seed(seed)
            self.machines.append(
                _Machine(
                    number,
                    network,
                    X[fit_on],
                    X[watched],
                    order,
                    dropout[number],
                    options.learning_rate,
                )
            )
        self.active = list(self.machines)
        self._stack()

    def run(self) -> list[list[Epoch]]:
        """Train until every machine has stopped; its history, each."""
        for number in range(1, self.options.epochs + 1):
            training = self._epoch()
            watched = self._watched_losses()
            stopped = []
            for i, machine in enumerate(self.active):
                epoch = Epoch(number, training[i], watched[i], machine.learning_rate)
                if self._closes(machine, epoch, i):
                    stopped.append(i)
            if stopped:
                self._leave(stopped)
            if not self.active:
                break
        return [machine.history for machine in self.machines]

    def _closes(self, machine: _Machine, epoch: Epoch, position: int) -> bool:
        """Note a machine's epoch; True when it stops here."""
        try:
            refuse_nan(epoch)
        except DivergedError as error:
            raise DivergedError(f"machine {machine.number}: {error}") from None
        machine.history.append(epoch)
        if self.options.on_epoch is not None:
            self.options.on_epoch(epoch)
        self._plateau(machine, epoch.held_out_loss)
        if epoch.held_out_loss < machine.best - MIN_DELTA:
            machine.best, machine.best_epoch = epoch.held_out_loss, epoch.number
            unstacked(self.stack, position, machine.network)
            return False
        return epoch.number - machine.best_epoch >= self.options.patience

    @staticmethod
    def _plateau(machine: _Machine, loss: float) -> None:
        """Do what ReduceLROnPlateau does: better means by one part in 10,000."""
        if loss < machine.plateau_best * (1 - 1e-4):
            machine.plateau_best, machine.bad_epochs = loss, 0
        else:
            machine.bad_epochs += 1
        if machine.bad_epochs > PLATEAU_PATIENCE:
            if machine.learning_rate * PLATEAU_FACTOR < machine.learning_rate - 1e-8:
                machine.learning_rate *= PLATEAU_FACTOR
            machine.bad_epochs = 0

    def _epoch(self) -> list[float]:
        size = self.options.batch_size
        self.stack.train()
        orders = [torch.randperm(len(m.fit_on), generator=m.order) for m in self.active]
        total = torch.zeros(len(self.active), dtype=torch.float64)
        for start in range(0, max(len(order) for order in orders), size):
            n_rows = [min(size, max(0, len(order) - start)) for order in orders]
            rows = torch.zeros(len(orders), max(n_rows), dtype=torch.long)
            for row, order, n in zip(rows, orders, n_rows, strict=True):
                row[:n] = order[start : start + n]
            taken = (rows + self.first_rows).flatten()
            batch = self.clips.flatten(0, 1).index_select(0, taken).view(*rows.shape, -1)
            self.draws.n_rows = n_rows
            losses = _losses(self.stack, batch, n_rows)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            self._step([i for i, n in enumerate(n_rows) if n])
            total += losses.detach() * torch.tensor(n_rows)
        return [value / len(order) for value, order in zip(total.tolist(), orders, strict=True)]

    @torch.no_grad()
    def _watched_losses(self) -> list[float]:
        self.stack.eval()
        return _losses(self.stack, self.watched, [len(m.watched) for m in self.active]).tolist()

    def _step(self, taking: list[int]) -> None:
        """Take Adam's step for the machines that had clips, at their own rates."""
        alike: dict[tuple[float, int], list[int]] = {}
        for i in taking:
            machine = self.active[i]
            alike.setdefault((machine.learning_rate, machine.steps), []).append(i)
            machine.steps += 1
        for (rate, steps), members in alike.items():
            whole = len(members) == len(self.active)
            chosen: list[Any] = [slice(None)] if whole else members
            parts = [(each, i) for each in self.state for i in chosen]
            adam(
                params=[parameter.detach()[i] for (parameter, _, _), i in parts],
                grads=[_gradient(parameter)[i] for (parameter, _, _), i in parts],
                exp_avgs=[first[i] for (_, first, _), i in parts],
                exp_avg_sqs=[second[i] for (_, _, second), i in parts],
                max_exp_avg_sqs=[],
                state_steps=[torch.tensor(float(steps)) for _ in parts],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=rate,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )
        for each in self.state:
            each[0].grad = None

    def _leave(self, stopped: list[int]) -> None:
        """Take machines that have stopped out of the stack."""
        kept = [i for i in range(len(self.active)) if i not in stopped]
        self.active = [self.active[i] for i in kept]
        if not kept:
            return
        moments = [(first[kept], second[kept]) for _, first, second in self.state]
        for parameter in self.stack.parameters():
            parameter.data = parameter.data[kept]
        self._fill(moments)

    def _stack(self) -> None:
        self.draws = Draws([])
        self.stack = stacked([machine.network for machine in self.machines], self.draws)
        self._fill([(torch.zeros_like(p), torch.zeros_like(p)) for p in self.stack.parameters()])

    def _fill(self, moments: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.state = [
            (p, first, second)
            for p, (first, second) in zip(self.stack.parameters(), moments, strict=True)
        ]
        self.draws.generators = [machine.dropout for machine in self.active]
        self.clips = _padded([machine.fit_on for machine in self.active])
        self.watched = _padded([machine.watched for machine in self.active])
        self.first_rows = self.clips.shape[1] * torch.arange(len(self.active))[:, None]


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _padded(clips: Sequence[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(list(clips), batch_first=True)


def _losses(stack: nn.Module, batch: Tensor, n_rows: Sequence[int]) -> Tensor:
    """Mean squared error of each machine's own rows; (n_machines,)."""
    errors = nn.functional.mse_loss(stack(batch), batch, reduction="none")
    if min(n_rows) == batch.shape[1]:
        return errors.mean(dim=(1, 2))
    n = torch.tensor(n_rows)[:, None]
    own = torch.arange(batch.shape[1]) < n
    return (errors.mean(dim=2) * own).sum(dim=1) / n[:, 0].clamp(min=1)
