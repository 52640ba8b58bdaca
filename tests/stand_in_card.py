"""A stand-in for a GPU where there is none: copies to the host arrive only when waited for."""

import threading
from collections.abc import Callable

import torch

CARD = "cuda:0"


class StandInCard:
    """Replaces what `embed.torch_encoder` asks of torch for a device `cuda:0`.

    Tensors stay on the CPU. A copy that does not block is carried out when its event is waited
    for; before that its target is NaN, as memory that a GPU has not written yet. `events` has, in
    order, `begin` for each batch that goes to the card, `wait` for each event, and the name of
    each call that would make the CPU wait for the card. Of `n_batches`, each is done only once the
    next has begun, as on a card that is never idle; a batch that does not come is an error.
    """

    def __init__(self, monkeypatch, n_batches: int = 0) -> None:
        self.events: list[str] = []
        self.n_batches, self._n_recorded = n_batches, 0
        self.begun = threading.Semaphore(0)
        self._under_way: list[Callable[[], object]] = []
        empty, to, copy = torch.empty, torch.Tensor.to, torch.Tensor.copy_

        def pinned(*shape, pin_memory=False, **options):
            made = empty(*shape, **options)
            return made.fill_(torch.nan) if pin_memory else made

        def to_card(tensor, *places, **options):
            if places[:1] != (CARD,):
                return to(tensor, *places, **options)
            if not options.get("non_blocking"):
                self.events.append("to")
            self.events.append("begin")
            self.begun.release()
            return tensor.clone()

        def copy_later(target, source, non_blocking=False):
            if not non_blocking:
                return copy(target, source)
            self._under_way.append(lambda: copy(target, source))
            return target

        monkeypatch.setattr(torch, "empty", pinned)
        monkeypatch.setattr(torch.Tensor, "to", to_card)
        monkeypatch.setattr(torch.Tensor, "copy_", copy_later)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self)
        for name in ("item", "tolist", "cpu"):
            monkeypatch.setattr(torch.Tensor, name, self._blocking(name))

    def record_event(self) -> "Event":
        copies, self._under_way = self._under_way, []
        self._n_recorded += 1
        return Event(self, self._n_recorded, copies)

    def _blocking(self, name: str) -> Callable[..., object]:
        original = getattr(torch.Tensor, name)

        def call(tensor, *arguments, **options):
            self.events.append(name)
            return original(tensor, *arguments, **options)

        return call


class Event:
    """What has to be done before a batch's vectors are on the host."""

    def __init__(self, card: StandInCard, number: int, copies: list[Callable[[], object]]) -> None:
        self.card, self.number, self.copies = card, number, copies

    def synchronize(self) -> None:
        n_needed = 2 if self.number == 1 else 1  # batches that begin before this one is done
        if self.number < self.card.n_batches:
            for _ in range(n_needed):
                assert self.card.begun.acquire(timeout=10), "the card has nothing to do"
        self.card.events.append("wait")
        with torch.inference_mode():
            for copy in self.copies:
                copy()
