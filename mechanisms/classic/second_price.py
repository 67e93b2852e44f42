"""Every item sold alone by second price with a reserve: VCG for additive bidders, Myerson for uniform values."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from mechanisms.affine.members import Demand, deterministic_menu
from mechanisms.affine.menu import AffineMaximizer
from mechanisms.outcome import Outcome


@final
@dataclass(frozen=True, slots=True, eq=False)
class SecondPrice:
    """Item by item, the highest bid at or above the reserve wins and pays the second bid or the reserve.

    Truthful for additive bidders (Vickrey 1961); revenue-optimal for one item and i.i.d. regular values with Myerson's
    reserve (Myerson 1981). Ties go to the lowest index.

    Attributes:
        bidders: Number of bidders.
        reserves: Reserve of each item, in units of value.

    Raises:
        ValueError: If a reserve is negative or there is no bidder.
    """

    bidders: int
    reserves: Float[Tensor, " items"]

    def __post_init__(self) -> None:
        if self.bidders < 1:
            raise ValueError(f"{self.bidders} bidders, wanted at least 1")
        if (self.reserves < 0).any():
            raise ValueError(f"reserves must not be negative, got {self.reserves.tolist()}")

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.reserves)

    @property
    def truthful(self) -> bool:
        """Always."""
        return True

    def run(self, valuations: Float[Tensor, "batch bidders items"]) -> Outcome:
        """Run one set of auctions per profile of reports."""
        best = valuations.amax(1)
        winner = valuations.argmax(1)  # first of equals: an auditor must reach the same bidder
        is_winner = torch.zeros_like(valuations).scatter_(1, winner[:, None, :], 1.0)
        rivals = valuations.masked_fill(is_winner.bool(), -torch.inf)
        reserves = self.reserves.to(valuations)
        second = rivals.amax(1) if self.bidders > 1 else torch.full_like(best, -torch.inf)
        price = torch.maximum(second, reserves)
        allocation = is_winner * (best >= reserves).to(valuations)[:, None, :]
        return Outcome(allocation=allocation, payment=(allocation * price[:, None, :]).sum(-1))


def vcg(bidders: int, items: int, demand: Demand = "additive") -> SecondPrice | AffineMaximizer:
    """Return VCG: second price without reserve item by item; of unit demand the best matching, without boosts.

    Every bidder pays what the others lose by it (Vickrey 1961, Clarke 1971, Groves 1973).
    """
    if demand == "additive":
        return SecondPrice(bidders, torch.zeros(items, dtype=torch.float64))
    menu = deterministic_menu(bidders, items, demand)
    no_boosts, weights = torch.zeros(len(menu), dtype=torch.float64), torch.ones(bidders, dtype=torch.float64)
    return AffineMaximizer(menu=menu, boosts=no_boosts, weights=weights)


def myerson_uniform(bidders: int, items: int, high: float = 1.0) -> SecondPrice:
    """Return item-wise Myerson for values i.i.d. U[0, high]: the reserve is high/2 (Myerson 1981)."""
    return SecondPrice(bidders, torch.full((items,), high / 2, dtype=torch.float64))


def myerson_uniform_revenue(bidders: int) -> Fraction:
    """Return the optimal revenue of one item with n bidders U[0, 1]: (n-1)/(n+1) + 1/((n+1) 2^n)."""
    return Fraction(bidders - 1, bidders + 1) + Fraction(1, (bidders + 1) * 2**bidders)


def best_reserves(valuations: Float[Tensor, "batch bidders items"], candidates: int = 400) -> Float[Tensor, " items"]:
    """Return each item's reserve of greatest second-price revenue on a sample, in units of value, shape (items,).

    For i.i.d. regular values this is item-wise Myerson (1981), else the best separate second-price auction.

    Args:
        valuations: Sample of profiles.
        candidates: Quantiles of the positive values to try, zero besides.
    """
    batch, bidders, items = valuations.shape
    reserves = torch.zeros(items, dtype=valuations.dtype)
    for item in range(items):
        values = valuations[:, :, item]
        top = values.topk(min(2, bidders), dim=1).values
        second = top[:, 1] if bidders > 1 else torch.zeros(batch, dtype=values.dtype)
        positive = values[values > 0].sort().values
        if not len(positive):
            continue
        picks = (torch.linspace(0, 1, candidates, dtype=torch.float64) * (len(positive) - 1)).long()
        tried = torch.cat([torch.zeros(1, dtype=values.dtype), positive[picks]])
        income = [float(torch.where(top[:, 0] >= r, torch.clamp(second, min=float(r)), 0.0).mean()) for r in tried]
        reserves[item] = tried[int(torch.tensor(income).argmax())]
    return reserves
