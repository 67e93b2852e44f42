"""What all networks share: running one as a mechanism, and what a bidder gets that alone reports otherwise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from mechanisms.outcome import Outcome

CHUNK: Final = 1 << 14  # profiles that are worked on together

Rule = Callable[[Mapping[str, Tensor], Tensor], tuple[Tensor, Tensor]]  # layers and bids to allocation and payments


@dataclass(frozen=True, slots=True, eq=False)
class Network(ABC):
    """One trained network. Individually rational and feasible; truthful only as far as it was trained to be.

    Attributes:
        layers: Tensors of the perceptrons, one network each.
        bidders: Number of bidders.
        items: Number of items.
        scale: Bids are divided by it, in units of value.
    """

    layers: Mapping[str, Tensor]
    bidders: int
    items: int
    scale: float

    @property
    def truthful(self) -> bool:
        """Never by a theorem."""
        return False

    @staticmethod
    @abstractmethod
    def rule(layers: Mapping[str, Tensor], bids: Float[Tensor, "starts batch bidders items"]) -> tuple[Tensor, Tensor]:
        """Return allocation and payments of bids over the scale, with their autograd graph."""

    def run(self, valuations: Float[Tensor, "batch bidders items"]) -> Outcome:
        """Run one auction per profile of reports, in chunks that bound memory; gradients flow through."""
        parts, kind = [], next(iter(self.layers.values())).dtype
        for rows in torch.split(valuations, CHUNK):
            allocation, payment = self.rule(self.layers, rows.to(kind)[None] / self.scale)
            parts.append((allocation[0].to(rows), payment[0].to(rows) * self.scale))
        return Outcome(
            allocation=torch.cat([shares for shares, _ in parts]), payment=torch.cat([due for _, due in parts])
        )


def lone_outcomes(
    rule: Rule,
    layers: Mapping[str, Tensor],
    values: Float[Tensor, "batch bidders items"],
    reports: Float[Tensor, "starts batch bidders items"],
) -> tuple[Float[Tensor, "starts batch bidders items"], Float[Tensor, "starts batch bidders"]]:
    """Return each bidder's shares and payment where it alone reports otherwise and the others tell the truth."""
    n = values.shape[1]
    alone = torch.eye(n, device=values.device, dtype=torch.bool)[:, None, :, None]  # (who, batch, bidder, item)
    bids = torch.where(alone, reports[:, None], values[None, None])  # (starts, who, batch, bidder, item)
    allocation, payment = rule(layers, bids.flatten(1, 2))
    shares = torch.diagonal(allocation.view(bids.shape), dim1=1, dim2=3).transpose(2, 3)
    return shares, torch.diagonal(payment.view(bids.shape[:4]), dim1=1, dim2=3)


def lone_utilities(
    rule: Rule,
    layers: Mapping[str, Tensor],
    values: Float[Tensor, "batch bidders items"],
    reports: Float[Tensor, "starts batch bidders items"],
) -> Float[Tensor, "starts batch bidders"]:
    """Return the utility of each bidder where it alone reports otherwise and the others tell the truth."""
    shares, payment = lone_outcomes(rule, layers, values, reports)
    return (shares * values).sum(3) - payment
