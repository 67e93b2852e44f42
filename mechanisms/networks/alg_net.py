"""ALGNet's additive auction network (NET-2).

Source: Rahme, Jelassi, Weinberg 2020, as used by credible-repeated-auctions, section 5.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.networks.layers import initial_layers, perceptron
from mechanisms.networks.network import Network


def alg_layers(
    starts: int, bidders: int, items: int, *, width: int, depth: int, generator: Generator
) -> dict[str, Tensor]:
    """Return the first weights of the three perceptrons: `sell`, `divide`, `pay`.

    Args:
        starts: How many networks side by side.
        bidders: Number of bidders n.
        items: Number of items m.
        width: Of every hidden layer.
        depth: Number of layers.
        generator: Draws them.
    """
    hidden = [bidders * items, *[width] * (depth - 1)]
    return {
        **initial_layers("sell", starts, [*hidden, items], generator),
        **initial_layers("divide", starts, [*hidden, (bidders + 1) * items], generator),
        **initial_layers("pay", starts, [*hidden, bidders], generator),
    }


def alg_outcome(
    layers: Mapping[str, Tensor], bids: Float[Tensor, "starts batch bidders items"]
) -> tuple[Float[Tensor, "starts batch bidders items"], Float[Tensor, "starts batch bidders"]]:
    """Return allocation and payments, with their autograd graph.

    An item is sold with the chance that `sell` gives it, to the bidder, or the nobody beside them, that the softmax of
    `divide` draws; a bidder pays the part that `pay` gives of what it bid for its shares, never more (NET-2).
    """
    starts, batch, bidders, items = bids.shape
    flat = bids.reshape(starts, batch, -1)
    sold = torch.sigmoid(perceptron(layers, "sell", flat))
    divided = perceptron(layers, "divide", flat).view(starts, batch, bidders + 1, items)
    allocation = torch.softmax(divided, dim=2)[:, :, :bidders] * sold[:, :, None]
    part = torch.sigmoid(perceptron(layers, "pay", flat))
    return allocation, part * (allocation * bids).sum(3)


@final
@dataclass(frozen=True, slots=True, eq=False)
class AlgNet(Network):
    """One trained network of this kind."""

    @staticmethod
    def rule(layers: Mapping[str, Tensor], bids: Float[Tensor, "starts batch bidders items"]) -> tuple[Tensor, Tensor]:
        """Return allocation and payments of bids over the scale."""
        return alg_outcome(layers, bids)
