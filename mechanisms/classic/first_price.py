"""First price for one item, forward and procurement, with public per-round context; not truthful."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from mechanisms.outcome import Outcome


@final
@dataclass(frozen=True, slots=True)
class FirstPrice:
    """The highest admissible bid wins and pays itself; ties share the item evenly.

    Forward: admissible is a bid of at least the round's reserve. Procurement, as a forward auction for the discount
    below the announced reserve (bid = reserve - price): admissible is a discount of at most reserve - minimum.

    Attributes:
        bidders: Number of bidders.
        procurement: Which of the two.
    """

    bidders: int
    procurement: bool = False

    @property
    def items(self) -> int:
        """Always one."""
        return 1

    @property
    def truthful(self) -> bool:
        """Never: paying one's own bid rewards shading it."""
        return False

    def run(
        self, valuations: Float[Tensor, "batch bidders 1"], context: Float[Tensor, "batch fields"] | None = None
    ) -> Outcome:
        """Run one auction per profile of bids.

        Args:
            valuations: Bids (discounts for procurement), in units of value; negative ones are inadmissible.
            context: Reserve and, for procurement, minimum price of each round; no bounds if left out.
        """
        bids = valuations[:, :, 0]
        admissible = bids >= 0
        if context is not None and self.procurement:
            admissible &= bids <= (context[:, :1] - context[:, 1:2])
        elif context is not None:
            admissible &= bids >= context[:, :1]
        ranked = bids.masked_fill(~admissible, -torch.inf)
        best = ranked.amax(1, keepdim=True)
        winners = ((ranked == best) & admissible).to(bids)
        share = winners / winners.sum(1, keepdim=True).clamp(min=1)
        return Outcome(allocation=share[:, :, None], payment=share * bids)
