"""What auction-mech's evaluation measures, as it measures it: to explain its table, not to judge auctions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from mechanisms.outcome import Mechanism, Outcome
from mechanisms.training.loop import step_generator
from mechanisms.valuations import Exponential, Uniform, ValuationModel
from protocol.errors import MalformedError

GRID: Final = 11  # misreports in [0, 1], whatever the values are
SEARCHED: Final = 20_000  # profiles


def printed_regret(mechanism: Mechanism, values: ValuationModel, *, seed: int) -> float:
    """Return their "regret": the best gain in the sum of all utilities, payments discounted by the allocation again.

    A bidder that lowers its bid so that another pays less "gains" what that one saves: a second-price auction, whose
    regret is zero, is given E[second - third highest value].
    """
    drawn = values.sample(SEARCHED, step_generator(seed, 16, 0))

    def total(bids: Tensor) -> Tensor:
        outcome = mechanism.run(bids)
        return (outcome.allocation[..., 0] * (drawn[..., 0] - outcome.payment)).sum(1)

    truthful, best = total(drawn), torch.zeros(len(drawn), dtype=drawn.dtype)
    for bidder in range(mechanism.bidders):
        for report in torch.linspace(0, 1, GRID, dtype=drawn.dtype):
            bids = drawn.clone()
            bids[:, bidder] = report
            best = torch.maximum(best, total(bids) - truthful)
    return float(best.mean())


def monopoly_reserve(values: ValuationModel) -> float:
    """Return where the virtual value is zero, in units of value; raise MalformedError where no formula is at hand."""
    if isinstance(values, Uniform):
        return max(values.low, values.high / 2)
    if isinstance(values, Exponential) and len(set(values.rates)) == 1:
        return 1 / values.rates[0]
    raise MalformedError(f"{type(values).__name__}: a reserve by formula is known for uniform and exponential values")


@final
@dataclass(frozen=True, slots=True, eq=False)
class NeverWithheld:
    """Their "Myerson": the highest bid always wins and pays the second bid or the reserve, also where it bid less.

    Neither truthful nor individually rational.

    Attributes:
        bidders: Number of bidders, at least 2.
        reserve: In units of value.
    """

    bidders: int
    reserve: float

    @property
    def items(self) -> int:
        """One."""
        return 1

    @property
    def truthful(self) -> bool:
        """Never: who wins below the reserve would rather bid less."""
        return False

    def run(self, valuations: Tensor) -> Outcome:
        """Run one auction per profile of reports, (batch, bidders, 1)."""
        top = valuations[..., 0].topk(2, dim=1)
        allocation = torch.zeros_like(valuations).scatter_(1, top.indices[:, :1, None], 1.0)
        price = top.values[:, 1].clamp_min(self.reserve)
        return Outcome(allocation=allocation, payment=allocation[..., 0] * price[:, None])
