"""RegretNet's auction network, additive and unit demand (NET-5).

Source: Duetting, Feng, Narasimhan, Parkes, Ravindranath 2019, as used by regretnet-local, section 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.networks.layers import initial_layers, perceptron
from mechanisms.outcome import Outcome

CHUNK: Final = 1 << 14  # profiles that are worked on together


def regret_layers(
    starts: int, bidders: int, items: int, *, width: int, depth: int, demand: str, generator: Generator
) -> dict[str, Tensor]:
    """Return the first weights of the perceptrons `allot` and `pay`, and `want` if demand is unit.

    Args:
        starts: How many networks side by side.
        bidders: Number of bidders n.
        items: Number of items m.
        width: Of every hidden layer.
        depth: Number of hidden layers.
        demand: "additive" or "unit".
        generator: Draws them.
    """
    hidden = [bidders * items, *[width] * depth]
    layers = initial_layers("allot", starts, [*hidden, (bidders + 1) * items], generator)
    if demand == "unit":
        layers |= initial_layers("want", starts, [*hidden, bidders * (items + 1)], generator)
    return layers | initial_layers("pay", starts, [*hidden, bidders], generator)


def regret_outcome(
    layers: Mapping[str, Tensor], bids: Float[Tensor, "starts batch bidders items"]
) -> tuple[Float[Tensor, "starts batch bidders items"], Float[Tensor, "starts batch bidders"]]:
    """Return allocation and payments, with their autograd graph.

    Each item goes to a bidder, or to nobody, with the chances of a softmax; for unit demand the smaller of that and of
    each bidder's softmax over the items, or none, so that rows and columns sum to at most 1. A bidder pays the part
    that `pay` gives of what it bid for its shares, never more (NET-5).
    """
    starts, batch, bidders, items = bids.shape
    flat = bids.reshape(starts, batch, -1)
    allotted = perceptron(layers, "allot", flat).view(starts, batch, bidders + 1, items)
    allocation = torch.softmax(allotted, dim=2)[:, :, :bidders]
    if "want_0" in layers:
        wanted = perceptron(layers, "want", flat).view(starts, batch, bidders, items + 1)
        allocation = torch.minimum(allocation, torch.softmax(wanted, dim=3)[..., :items])
    part = torch.sigmoid(perceptron(layers, "pay", flat))
    return allocation, part * (allocation * bids).sum(3)


@final
@dataclass(frozen=True, slots=True, eq=False)
class RegretNet:
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

    def run(self, valuations: Float[Tensor, "batch bidders items"]) -> Outcome:
        """Run one auction per profile of reports, in chunks that bound memory; gradients flow through."""
        parts = []
        for rows in torch.split(valuations, CHUNK):
            allocation, payment = regret_outcome(self.layers, rows.to(torch.float32)[None] / self.scale)
            parts.append((allocation[0].to(rows), payment[0].to(rows) * self.scale))
        return Outcome(
            allocation=torch.cat([shares for shares, _ in parts]), payment=torch.cat([due for _, due in parts])
        )
