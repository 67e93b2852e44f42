"""RegretNet's auction network, additive and unit demand (NET-5).

Source: Duetting, Feng, Narasimhan, Parkes, Ravindranath 2019, as used by regretnet-local, section 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.networks.layers import initial_layers, perceptron
from mechanisms.networks.network import Network

SHIFT: Final = 18  # from a sum in 2^-28 to a table's index in 2^-10, in the exact twin


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
class RegretNet(Network):
    """One trained network of this kind."""

    @staticmethod
    def rule(layers: Mapping[str, Tensor], bids: Float[Tensor, "starts batch bidders items"]) -> tuple[Tensor, Tensor]:
        """Return allocation and payments of bids over the scale."""
        return regret_outcome(layers, bids)


@final
@dataclass(frozen=True, slots=True, eq=False)
class IntegerNetwork:
    """The exact twin of a network's artifact, in NumPy integers and from its definition (NET-8).

    Attributes:
        parameters: Integers by the names of the artifact's class.
        bidders: Number of bidders.
        items: Number of items.
        unit_share: Shares of a whole item.
        bid_max: Largest bid, grid units.
    """

    parameters: Mapping[str, npt.NDArray[np.int64]]
    bidders: int
    items: int
    unit_share: int
    bid_max: int

    def run(self, bids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return allocation and payments of rounds that everybody takes part in."""
        values, n, m = self.parameters, self.bidders, self.items
        x = np.clip(bids, 0, self.bid_max)
        flat = x.reshape(len(x), -1)
        logits = self._tower("allot", flat) @ values["allot_last"] + values["allot_last_bias"]
        logits = logits.reshape(len(x), n + 1, m)
        below = logits.max(axis=1, keepdims=True) - logits
        powers = values["exp"][np.minimum(below >> SHIFT, len(values["exp"]) - 1)]
        allocation = powers[:, :n] * self.unit_share // powers.sum(axis=1, keepdims=True)
        if "want_first" in values:
            logits = self._tower("want", flat) @ values["want_last"] + values["want_last_bias"]
            logits = logits.reshape(len(x), n, m + 1)
            below = logits.max(axis=2, keepdims=True) - logits
            powers = values["exp"][np.minimum(below >> SHIFT, len(values["exp"]) - 1)]
            allocation = np.minimum(allocation, powers[..., :m] * self.unit_share // powers.sum(axis=2, keepdims=True))
        asked = self._tower("pay", flat) @ values["pay_last"] + values["pay_last_bias"]
        part = self._table("logistic", asked, SHIFT)
        payment = (allocation * x).sum(axis=2) * part // self.unit_share
        return allocation, payment

    def _tower(self, name: str, flat: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        values = self.parameters
        sums = flat @ values[f"{name}_first"] + values[f"{name}_first_bias"]
        signal = self._table("activation", sums, int(values["shift"][0]))
        for weights, bias in zip(values[f"{name}_hidden"], values[f"{name}_hidden_bias"], strict=True):
            signal = self._table("activation", signal @ weights + bias, SHIFT)
        return signal

    def _table(self, name: str, sums: npt.NDArray[np.int64], shift: int) -> npt.NDArray[np.int64]:
        table = self.parameters[name]
        entries: npt.NDArray[np.int64] = table[np.clip((sums >> shift) + len(table) // 2, 0, len(table) - 1)]
        return entries
