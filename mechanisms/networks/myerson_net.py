"""MyersonNet, item by item: learned virtual values that rise with the bid (NET-13).

Source: Duetting, Feng, Narasimhan, Parkes, Ravindranath 2019, section 3: min-max networks (Sill 1998).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from mechanisms.outcome import Outcome


def virtual_values(
    slopes: Float[Tensor, "*starts bidders items groups pieces"],
    shifts: Float[Tensor, "*starts bidders items groups pieces"],
    bids: Float[Tensor, "*starts batch bidders items"],
) -> Float[Tensor, "*starts batch bidders items"]:
    """Return the least over groups of the greatest over pieces of exp(slope) bid + shift: rising, piecewise linear."""
    lines = slopes.exp().unsqueeze(-5) * bids[..., None, None] + shifts.unsqueeze(-5)
    return lines.amax(-1).amin(-1)


def bids_of(
    slopes: Float[Tensor, "*starts bidders items groups pieces"],
    shifts: Float[Tensor, "*starts bidders items groups pieces"],
    virtual: Float[Tensor, "*starts batch bidders items"],
) -> Float[Tensor, "*starts batch bidders items"]:
    """Return the bids that have these virtual values: the inverse, in closed form."""
    lines = (virtual[..., None, None] - shifts.unsqueeze(-5)) * (-slopes).exp().unsqueeze(-5)
    return lines.amin(-1).amax(-1)


@final
@dataclass(frozen=True, slots=True, eq=False)
class MyersonNet:
    """Item by item, the greatest virtual value above zero wins and pays the least bid that wins.

    Truthful and individually rational for additive bidders whatever the parameters: virtual values rise with the bid
    (Myerson 1981). Ties go to the lowest index.

    Attributes:
        slopes: Logarithms of the slopes of the pieces, (bidders, items, groups, pieces).
        shifts: Virtual value of a piece at bid zero, over the scale.
        scale: Bids are divided by it, payments multiplied.
    """

    slopes: Float[Tensor, "bidders items groups pieces"]
    shifts: Float[Tensor, "bidders items groups pieces"]
    scale: float = 1.0

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        return self.slopes.shape[0]

    @property
    def items(self) -> int:
        """Number of items."""
        return self.slopes.shape[1]

    @property
    def truthful(self) -> bool:
        """Always."""
        return True

    def run(self, valuations: Float[Tensor, "batch bidders items"]) -> Outcome:
        """Run one set of auctions per profile of reports."""
        slopes, shifts = self.slopes.to(valuations), self.shifts.to(valuations)
        virtual = virtual_values(slopes, shifts, valuations / self.scale)
        best, winner = virtual.max(dim=1, keepdim=True)  # first of equals
        wins = torch.zeros_like(virtual).scatter_(1, winner, 1.0)
        rivals = virtual.masked_fill(wins.bool(), -torch.inf).amax(1, keepdim=True).clamp_min(0)
        price = bids_of(slopes, shifts, rivals.expand_as(virtual)).clamp_min(0) * self.scale
        allocation = wins * (best > 0).to(wins)
        return Outcome(allocation=allocation, payment=(allocation * price).sum(2))
