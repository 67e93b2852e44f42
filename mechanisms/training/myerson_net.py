"""Training MyersonNet: the revenue of a softened second price in virtual values (NET-13)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.networks.myerson_net import MyersonNet, bids_of, virtual_values
from mechanisms.training.loop import fresh_profiles
from mechanisms.training.surrogate import autograd
from mechanisms.valuations import ValuationModel


class MyersonNetTraining:
    """Virtual values trained for revenue: the temperature softens who wins, never what the winner pays.

    Args:
        bidders: Number of bidders n.
        items: Number of items m.
        generator: Draws the first slopes and shifts.
        groups: Of the outer minimum.
        pieces: Of the inner maximum.
        starts: Auctions trained side by side.
    """

    def __init__(
        self, bidders: int, items: int, generator: Generator, *, groups: int = 5, pieces: int = 10, starts: int = 1
    ) -> None:
        if min(starts, groups, pieces) < 1:
            raise ValueError(f"{starts} auctions, {groups} groups of {pieces} pieces, wanted at least 1 each")
        self.bidders, self.items, self.starts = bidders, items, starts
        shape = (starts, bidders, items, groups, pieces)
        self.slopes = torch.rand(shape, generator=generator)
        self.shifts = -torch.rand(shape, generator=generator)

    def parameters(self) -> dict[str, Tensor]:
        """Return the trained tensors by name."""
        return {"slopes": self.slopes, "shifts": self.shifts}

    def source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], Tensor]:
        """Return where minibatches come from: fresh profiles."""
        return fresh_profiles(values)

    def gradients(
        self, drawn: Float[Tensor, "batch bidders items"], temperature: float | Tensor, progress: float | Tensor = 0.0
    ) -> tuple[dict[str, Tensor], Float[Tensor, " starts"]]:
        """Return the gradient of the softened revenue, descending, and the softened revenue of each start."""
        alone = torch.eye(self.bidders, device=drawn.device, dtype=torch.bool)[:, :, None]

        def surrogate() -> Tensor:
            virtual = virtual_values(self.slopes, self.shifts, drawn.expand(self.starts, -1, -1, -1))
            nobody = torch.zeros_like(virtual[:, :, :1])
            wins = torch.softmax(torch.cat([virtual, nobody], dim=2) * temperature, dim=2)[:, :, :-1]
            others = virtual[:, :, None].masked_fill(alone, -torch.inf).amax(3).clamp_min(0)
            price = bids_of(self.slopes, self.shifts, others).clamp_min(0)
            return (wins * price).sum((2, 3)).mean(1)

        return autograd(self.parameters(), surrogate)

    def mechanism(self, start: int = 0, scale: float = 1.0) -> MyersonNet:
        """Return the auction of one start, which is exactly truthful."""
        slopes, shifts = (tensor[start].detach().cpu().double() for tensor in (self.slopes, self.shifts))
        return MyersonNet(slopes, shifts, scale)
