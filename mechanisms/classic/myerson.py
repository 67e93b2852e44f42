"""Myerson's auction item by item, for any distribution: virtual values ironed by the hull of the revenue curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from mechanisms.outcome import Outcome


@final
@dataclass(frozen=True, slots=True, eq=False)
class Myerson:
    """Item by item, the greatest ironed virtual value wins if it is at least zero, and pays the least winning bid.

    A virtual value is a step function of the bid: the level of the last knot at or below it, nothing below the first.
    Truthful and individually rational for additive bidders whatever the knots, as levels rise; revenue-optimal among
    separate sales where values are independent across bidders. Ties go to the lowest index. Source: Myerson (1981).

    Attributes:
        knots: Bids at which the level changes, rising; padded with infinity.
        levels: Ironed virtual values from there on, rising, in units of value.

    Raises:
        ValueError: If knots or levels fall.
    """

    knots: Float[Tensor, "bidders items knots"]
    levels: Float[Tensor, "bidders items knots"]

    def __post_init__(self) -> None:
        finite = torch.isfinite(self.knots)
        for name, tensor in (("knots", self.knots), ("levels", self.levels)):
            steps = tensor.where(finite, torch.inf)
            if bool((steps[..., 1:] < steps[..., :-1]).any()):
                raise ValueError(f"{name} fall")

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        return self.knots.shape[0]

    @property
    def items(self) -> int:
        """Number of items."""
        return self.knots.shape[1]

    @property
    def truthful(self) -> bool:
        """Always."""
        return True

    def run(self, valuations: Float[Tensor, "batch bidders items"]) -> Outcome:
        """Run one set of auctions per profile of reports."""
        bids = valuations.permute(1, 2, 0).contiguous()
        at = torch.searchsorted(self.knots, bids, right=True) - 1  # (bidders, items, batch)
        level = self.levels.gather(2, at.clamp_min(0)).where(at >= 0, -torch.inf)
        best = level.amax(0)
        winner = level.argmax(0)  # first of equals: an auditor must reach the same bidder
        allocation = torch.zeros_like(level).scatter_(0, winner[None], (best >= 0).to(level)[None])
        price = torch.stack([self._price(i, level) for i in range(self.bidders)])
        payment = (allocation * price.where(allocation > 0, 0.0)).sum(1)
        return Outcome(allocation=allocation.permute(2, 0, 1), payment=payment.T)

    def _price(self, bidder: int, level: Float[Tensor, "bidders items batch"]) -> Float[Tensor, "items batch"]:
        """Return the least bid with which a bidder wins, infinite where none does."""
        none = torch.full_like(level[:1], -torch.inf)
        beaten = torch.cat([none, level[:bidder]]).amax(0)  # lower seats win ties
        matched = torch.cat([none, level[bidder + 1 :]]).amax(0).clamp_min(0.0)
        levels = self.levels[bidder].where(torch.isfinite(self.knots[bidder]), torch.inf).contiguous()
        above = torch.searchsorted(levels, beaten.contiguous(), right=True)
        reached = torch.searchsorted(levels, matched.contiguous())
        first = torch.maximum(above, reached)
        padded = torch.cat([self.knots[bidder], torch.full_like(self.knots[bidder, :, :1], torch.inf)], dim=1)
        return padded.gather(1, first)


def ironed(
    values: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return knots and levels of the ironed virtual value of a distribution given by equally likely values.

    With the values falling, R(k) = k v_k is the revenue of the price v_k; the slopes of its least concave majorant are
    the ironed virtual values. Source: Myerson (1981), section 6.

    Args:
        values: A sample, or quantiles of a known distribution; at least one.

    Raises:
        ValueError: If there is no value, or one is negative.
    """
    if not len(values) or values.min() < 0:
        raise ValueError("wanted at least one value, none negative")
    falling = np.sort(values)[::-1]
    revenue = falling * np.arange(1, len(falling) + 1)
    hull = [(0, 0.0)]
    for k, earned in enumerate(revenue, start=1):
        while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (k - hull[-2][0]) <= (earned - hull[-2][1]) * (
            hull[-1][0] - hull[-2][0]
        ):
            hull.pop()
        hull.append((k, float(earned)))
    ends = np.array(hull)
    levels = np.diff(ends[:, 1]) / np.diff(ends[:, 0])
    knots = falling[ends[1:, 0].astype(np.int64) - 1]
    return knots[::-1].copy(), levels[::-1].copy()


def separate_myerson(valuations: Float[Tensor, "batch bidders items"]) -> Myerson:
    """Return Myerson's auction for the marginal distributions of a sample, one for each bidder and item.

    Args:
        valuations: Sample of profiles; 10^5 of them give the revenue to about a thousandth.
    """
    _, bidders, items = valuations.shape
    parts = [[ironed(valuations[:, i, j].double().numpy()) for j in range(items)] for i in range(bidders)]
    most = max(len(knots) for row in parts for knots, _ in row)
    knots = torch.full((bidders, items, most), torch.inf, dtype=torch.float64)
    levels = torch.full((bidders, items, most), torch.inf, dtype=torch.float64)
    for i, row in enumerate(parts):
        for j, (at, level) in enumerate(row):
            knots[i, j, : len(at)], levels[i, j, : len(at)] = torch.from_numpy(at), torch.from_numpy(level)
    return Myerson(knots, levels)
