"""The single-item network of auction-mech, with an outcome in which nobody wins (NET-9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.networks.layers import initial_layers, perceptron
from mechanisms.networks.network import Network

TRUNK: Final = (64, 32, 16)


def fraction_layers(starts: int, bidders: int, generator: Generator) -> dict[str, Tensor]:
    """Return the first weights of the perceptron `trunk` and of its two heads, `allot` and `part`.

    Args:
        starts: How many networks side by side.
        bidders: Number of bidders n.
        generator: Draws them.
    """
    return {
        **initial_layers("trunk", starts, [bidders, *TRUNK], generator),
        **initial_layers("allot", starts, [TRUNK[-1], bidders + 1], generator),
        **initial_layers("part", starts, [TRUNK[-1], bidders], generator),
    }


def fraction_outcome(
    layers: Mapping[str, Tensor], bids: Float[Tensor, "starts batch bidders 1"]
) -> tuple[Float[Tensor, "starts batch bidders 1"], Float[Tensor, "starts batch bidders"]]:
    """Return allocation and payments, with their autograd graph: a bidder pays a part of its own bid for its share.

    The paper's softmax has no outcome in which nobody wins, and so no truthful mechanism that withholds (NET-9).
    """
    features = torch.relu(perceptron(layers, "trunk", bids[..., 0], torch.relu))
    allocation = torch.softmax(perceptron(layers, "allot", features), dim=2)[:, :, :-1, None]
    part = torch.sigmoid(perceptron(layers, "part", features))
    return allocation, part * (allocation * bids).sum(3)


@final
@dataclass(frozen=True, slots=True, eq=False)
class FractionNet(Network):
    """One trained network of this kind."""

    @staticmethod
    def rule(layers: Mapping[str, Tensor], bids: Float[Tensor, "starts batch bidders 1"]) -> tuple[Tensor, Tensor]:
        """Return allocation and payments of bids over the scale."""
        return fraction_outcome(layers, bids)
