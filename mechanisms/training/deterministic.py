"""Training the boosts of deterministic affine maximizers: members of the family with tied boosts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.affine.members import Demand, Member, deterministic_menu, incidence
from mechanisms.affine.menu import AffineMaximizer
from mechanisms.training.loop import fresh_profiles
from mechanisms.training.surrogate import CHUNK, pull
from mechanisms.valuations import ValuationModel


class DeterministicAMA:
    """Terms of a member's boosts, unit weights, several starts trained side by side.

    Args:
        bidders: Number of bidders n.
        items: Number of items m.
        member: Which boosts are tied together (`mechanisms.affine.members.incidence`).
        reserves: One start each, over the scale of the values: the terms whose boosts come nearest to a reserve for
            each unsold item.
        spread: Standard deviation of what is added to the first terms.
        generator: Draws it.
        demand: "unit" leaves out allocations that give a bidder two items.
    """

    def __init__(
        self,
        bidders: int,
        items: int,
        member: Member,
        reserves: Sequence[float],
        generator: Generator,
        *,
        spread: float = 0.0,
        demand: Demand = "additive",
    ) -> None:
        if not reserves:
            raise ValueError("no starting reserve was given")
        self.bidders, self.items, self.starts, self.member = bidders, items, len(reserves), member
        self.menu = deterministic_menu(bidders, items, demand)
        self.incidence = incidence(member, self.menu)
        wanted = -self.menu.sum((1, 2))[:, None] * torch.tensor(list(reserves), dtype=torch.float64)
        nearest = torch.linalg.lstsq(self.incidence, wanted, driver="gelsd").solution.T.to(torch.float32)
        self._menu, self._ties = self.menu.to(torch.float32), self.incidence.to(torch.float32)
        self._where = self._menu.device
        self.terms = nearest.contiguous() + torch.randn(nearest.shape, generator=generator) * spread

    def parameters(self) -> dict[str, Tensor]:
        """Return the trained tensor by name."""
        return {"terms": self.terms}

    def source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], Tensor]:
        """Return where minibatches come from: fresh profiles."""
        return fresh_profiles(values)

    def gradients(
        self, drawn: Float[Tensor, "batch bidders items"], temperature: float | Tensor, progress: float | Tensor = 0.0
    ) -> tuple[dict[str, Tensor], Float[Tensor, " starts"]]:
        """Return the gradient of the negative surrogate revenue (AMA-6), and the surrogate of each start."""
        if self._where != self.terms.device:  # once: a step recorded on a GPU cannot copy from the CPU
            self._menu, self._ties = self.menu.to(self.terms), self.incidence.to(self.terms)
            self._where = self.terms.device
        menu, ties = self._menu, self._ties
        boosts = temperature * self.terms @ ties.T
        slopes, total = torch.zeros_like(self.terms), self.terms.new_zeros(self.starts)
        for part in torch.split(drawn, max(16, CHUNK // boosts.numel())):
            own = [(temperature * part[:, i] @ menu[:, i].T)[:, None] for i in range(self.bidders)]
            welfare = boosts + torch.stack(own).sum(0)
            result = pull(welfare, [welfare - o for o in own], (self.bidders - 1) * welfare + boosts, temperature)
            slopes -= result.entry.sum(0) @ ties
            total += result.revenue
        return {"terms": slopes / len(drawn)}, total / len(drawn)

    def mechanism(self, start: int = 0, scale: float = 1.0) -> AffineMaximizer:
        """Return the hard mechanism of one start, float64, boosts in units of value."""
        boosts = self.incidence @ self.terms[start].double().cpu() * scale
        return AffineMaximizer(menu=self.menu, boosts=boosts, weights=torch.ones(self.bidders, dtype=torch.float64))
