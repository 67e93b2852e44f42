"""Items sold one by one at prices learned from the rivals' bids for that item: for correlated values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from mechanisms.affine.fee import LAYERS, relu_network
from mechanisms.outcome import Outcome


@final
@dataclass(frozen=True, slots=True, eq=False)
class ConditionalPrices:
    """Item by item, the highest bidder is offered the greater of the second bid and a price set by its rivals' bids.

    Truthful and individually rational for additive bidders: no own bid moves the offer, and a lower bid than the second
    gets none. Ties go to the lowest index. Form of Ronen (2001); the price is a ReLU network, as in conditional auction
    nets (Huo et al. 2025), whose own code we have not seen.

    Attributes:
        first: Weights of the first layer.
        first_bias: Its bias.
        second: Weights of the second layer.
        second_bias: Its bias.
        third: Weights of the last layer.
        third_bias: Its bias.
        scale: Bids are divided by it, prices multiplied.
    """

    first: Float[Tensor, "bidders items inputs hidden"]
    first_bias: Float[Tensor, "bidders items hidden"]
    second: Float[Tensor, "bidders items hidden hidden"]
    second_bias: Float[Tensor, "bidders items hidden"]
    third: Float[Tensor, "bidders items hidden"]
    third_bias: Float[Tensor, "bidders items"]
    scale: float = 1.0

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        return self.first.shape[0]

    @property
    def items(self) -> int:
        """Number of items."""
        return self.first.shape[1]

    @property
    def truthful(self) -> bool:
        """Always."""
        return True

    def offers(self, valuations: Float[Tensor, "batch bidders items"]) -> Float[Tensor, "batch bidders items"]:
        """Return what each bidder would be asked for each item if it were the highest bidder, in units of value."""
        bids = valuations.permute(1, 2, 0)  # (bidders, items, batch)
        rivals = torch.stack([torch.cat([bids[:i], bids[i + 1 :]]) for i in range(self.bidders)])
        inputs = rivals.permute(0, 2, 3, 1) / self.scale  # (bidders, items, batch, inputs)
        price = relu_network(inputs, {name: getattr(self, name) for name in LAYERS}) * self.scale
        highest = rivals.amax(1).clamp_min(0.0)
        return torch.maximum(price, highest).permute(2, 0, 1)

    def run(self, valuations: Float[Tensor, "batch bidders items"]) -> Outcome:
        """Run one set of auctions per profile of reports."""
        offers = self.offers(valuations)
        best = torch.zeros_like(valuations).scatter_(1, valuations.argmax(1, keepdim=True), 1.0)
        sold = best * (valuations >= offers).to(valuations)
        return Outcome(allocation=sold, payment=(sold * offers).sum(-1))
