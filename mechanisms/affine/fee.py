"""A fee that depends on the rivals' bids only, with opt-out, on top of any affine maximizer (FEE-1 to FEE-3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechanisms.affine.menu import AffineMaximizer, IntegerAffineMaximizer
from mechanisms.affine.size_boost import IntegerSizeBoosted, SizeBoosted
from mechanisms.outcome import Outcome, utilities

LAYERS: Final = ("first", "first_bias", "second", "second_bias", "third", "third_bias")


@final
@dataclass(frozen=True, slots=True, eq=False)
class FeeNetwork:
    """One ReLU network per bidder, from the rivals' bids in seat order to a fee of at least zero (FEE-1).

    Attributes:
        first: Weights of the first layer.
        first_bias: Its bias.
        second: Weights of the second layer.
        second_bias: Its bias.
        third: Weights of the last layer.
        third_bias: Its bias.
        scale: Bids are divided by it, fees multiplied.
    """

    first: Float[Tensor, "bidders inputs hidden"]
    first_bias: Float[Tensor, "bidders hidden"]
    second: Float[Tensor, "bidders hidden hidden"]
    second_bias: Float[Tensor, "bidders hidden"]
    third: Float[Tensor, "bidders hidden"]
    third_bias: Float[Tensor, " bidders"]
    scale: float = 1.0

    def fees(self, valuations: Float[Tensor, "batch bidders items"]) -> Float[Tensor, "batch bidders"]:
        """Return the fee of each bidder, in units of value."""
        inputs = rivals_of(valuations) / self.scale
        return torch.relu(relu_network(inputs, {name: getattr(self, name) for name in LAYERS})).T * self.scale


def relu_network(inputs: Float[Tensor, "... batch inputs"], layers: Mapping[str, Tensor]) -> Float[Tensor, "... batch"]:
    """Return the output of networks with two hidden ReLU layers, one for each index in front of the batch.

    Args:
        inputs: What each network sees.
        layers: `LAYERS` by name, their last dimensions as in `FeeNetwork`.
    """
    hidden = torch.relu(inputs @ layers["first"] + layers["first_bias"][..., None, :])
    hidden = torch.relu(hidden @ layers["second"] + layers["second_bias"][..., None, :])
    output: Tensor = (hidden * layers["third"][..., None, :]).sum(-1) + layers["third_bias"][..., None]
    return output


def rivals_of(valuations: Float[Tensor, "batch bidders items"]) -> Float[Tensor, "bidders batch inputs"]:
    """Return for each bidder the others' rows, in seat order, as one vector."""
    bidders = valuations.shape[1]
    rows = [torch.cat([valuations[:, j] for j in range(bidders) if j != i], dim=1) for i in range(bidders)]
    return torch.stack(rows)


@final
@dataclass(frozen=True, slots=True, eq=False)
class WithFee:
    """An affine maximizer whose bidders also pay a fee set by their rivals' bids, or opt out of the round (FEE-2).

    A bidder whose utility would be below its fee gets and pays nothing; its items stay unsold, nobody else is touched.
    Utility is max(u - fee, 0), and no report changes the fee: truth stays dominant, and nobody loses.

    Attributes:
        base: The affine maximizer.
        network: What sets the fees.
        opt_out: Whether bidders may opt out; without it the mechanism is truthful, but a bidder can lose.

    Raises:
        ValueError: If there is one bidder only, or the network is for another size.
    """

    base: AffineMaximizer | SizeBoosted
    network: FeeNetwork
    opt_out: bool = True

    def __post_init__(self) -> None:
        if self.base.bidders < 2:
            raise ValueError("a fee set by the rivals' bids needs at least 2 bidders")
        wanted = (self.base.bidders, (self.base.bidders - 1) * self.base.items)
        if tuple(self.network.first.shape[:2]) != wanted:
            raise ValueError(f"the first layer has shape {tuple(self.network.first.shape)}, wanted {wanted} in front")

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        return self.base.bidders

    @property
    def items(self) -> int:
        """Number of items."""
        return self.base.items

    @property
    def truthful(self) -> bool:
        """Always."""
        return True

    def run(self, valuations: Float[Tensor, "batch bidders items"]) -> Outcome:
        """Run one auction per profile of reports."""
        outcome = self.base.run(valuations)
        fees = self.network.fees(valuations)
        if not self.opt_out:
            return Outcome(allocation=outcome.allocation, payment=outcome.payment + fees)
        stays = self._stays(outcome, valuations, fees).to(valuations)
        return Outcome(allocation=outcome.allocation * stays[:, :, None], payment=(outcome.payment + fees) * stays)

    def opting_out(self, valuations: Float[Tensor, "batch bidders items"]) -> Bool[Tensor, "batch bidders"]:
        """Return who opts out of which profile."""
        return ~self._stays(self.base.run(valuations), valuations, self.network.fees(valuations))

    @staticmethod
    def _stays(outcome: Outcome, valuations: Tensor, fees: Tensor) -> Tensor:
        return utilities(outcome, valuations) >= fees


@final
@dataclass(frozen=True, slots=True, eq=False)
class IntegerWithFee:
    """The exact twin of `WithFee`, in plain Python integers (FEE-3): for the differential check.

    Attributes:
        base: The twin of the affine maximizer.
        layers: The parameters `fee_...` of the artifact.
        bid_max: Bids are clamped to 0..bid_max, grid units.
    """

    base: IntegerAffineMaximizer | IntegerSizeBoosted
    layers: Mapping[str, npt.NDArray[np.int64]]
    bid_max: int

    def run(self, bids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return allocation (batch, bidders, items) in 2^-q of an item and payment (batch, bidders) in fine units."""
        allocation, payment = (array.copy() for array in self.base.run(bids))
        for index, profile in enumerate(np.clip(bids, 0, self.bid_max).tolist()):
            for i, row in enumerate(profile):
                utility = sum(int(a) * v for a, v in zip(allocation[index, i], row, strict=True))
                utility -= int(payment[index, i])
                fee = self._fee(i, [v for j, other in enumerate(profile) if j != i for v in other])
                if utility < fee:
                    allocation[index, i], payment[index, i] = 0, 0
                else:
                    payment[index, i] += fee
        return allocation, payment

    def _fee(self, bidder: int, rivals: list[int]) -> int:
        w = {name: self.layers[f"fee_{name}"][bidder] for name in LAYERS}
        shifts = [int(shift) for shift in self.layers["fee_shifts"]]
        hidden = w["first"].shape[-1]
        inner = _layer(rivals, w["first"].reshape(-1, hidden).tolist(), w["first_bias"].tolist(), shifts[0])
        outer = _layer(inner, w["second"].tolist(), w["second_bias"].tolist(), shifts[1])
        return _layer(outer, [[int(v)] for v in w["third"]], [int(w["third_bias"])], shifts[2])[0]


def _layer(inputs: list[int], weights: list[list[int]], bias: list[int], shift: int) -> list[int]:
    sums = [b + sum(x * row[k] for x, row in zip(inputs, weights, strict=True)) for k, b in enumerate(bias)]
    return [max(0, total) >> shift for total in sums]
