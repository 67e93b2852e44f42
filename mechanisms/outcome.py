"""Outcomes of sealed-bid auctions and the laws every mechanism keeps (docs/notation.md, OUT-1 to OUT-4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@final
@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a mechanism decides for a batch of bid profiles.

    Attributes:
        allocation: Share of each item that each bidder gets, in [0, 1].
        payment: What each bidder pays, in units of value.
    """

    allocation: Float[Tensor, "batch bidders items"]
    payment: Float[Tensor, "batch bidders"]


@runtime_checkable
class Mechanism(Protocol):
    """A sealed-bid auction for additive bidders."""

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        ...

    @property
    def items(self) -> int:
        """Number of items."""
        ...

    @property
    def truthful(self) -> bool:
        """Whether truth is a dominant strategy by a theorem about the class."""
        ...

    def run(self, valuations: Float[Tensor, "batch bidders items"]) -> Outcome:
        """Run one auction per profile of reports."""
        ...


def values_of(outcome: Outcome, valuations: Float[Tensor, "batch bidders items"]) -> Float[Tensor, "batch bidders"]:
    """Return what each bidder's allocation is worth to it, in units of value (OUT-1)."""
    return (outcome.allocation * valuations).sum(-1)


def utilities(outcome: Outcome, valuations: Float[Tensor, "batch bidders items"]) -> Float[Tensor, "batch bidders"]:
    """Return quasi-linear utilities at true values, in units of value (OUT-2)."""
    return values_of(outcome, valuations) - outcome.payment


def revenue(outcome: Outcome) -> Float[Tensor, " batch"]:
    """Return the sum of payments of each auction, in units of value (OUT-3)."""
    return outcome.payment.sum(-1)


def welfare(outcome: Outcome, valuations: Float[Tensor, "batch bidders items"]) -> Float[Tensor, " batch"]:
    """Return the sum of values of each auction, in units of value."""
    return values_of(outcome, valuations).sum(-1)


def overallocation(outcome: Outcome) -> float:
    """Return the largest share of an item given out beyond the whole, or below zero; 0 if feasible (OUT-4)."""
    if not outcome.allocation.numel():
        return 0.0
    above = (outcome.allocation.sum(-2) - 1).max()
    below = (-outcome.allocation).max()
    return max(float(torch.maximum(above, below)), 0.0)


def ir_violation(outcome: Outcome, valuations: Float[Tensor, "batch bidders items"]) -> float:
    """Return the largest loss of a truthful bidder, in units of value; 0 if individually rational."""
    if not outcome.payment.numel():
        return 0.0
    return max(float(-utilities(outcome, valuations).min()), 0.0)
