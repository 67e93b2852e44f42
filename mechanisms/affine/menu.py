"""Affine maximizers over an explicit menu, lottery or deterministic: float and integer twins (AMA-1 to AMA-3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechanisms.outcome import Outcome


@final
@dataclass(frozen=True, slots=True, eq=False)
class AffineMaximizer:
    """Takes the menu entry of greatest affine social welfare; charges weighted VCG payments.

    Truthful and individually rational for every menu, boost and positive weight. Source: Likhodedov and Sandholm
    (2004); lotteries: Curry, Sandholm and Dickerson (2023); `docs/notation.md`, AMA-1, AMA-2.

    Attributes:
        menu: Candidate allocations; each share in [0, 1], each item given out at most once.
        boosts: Added to the welfare of each menu entry, in units of value.
        weights: Positive bidder weights, dimensionless.

    Raises:
        ValueError: If a weight is not positive, a share lies outside [0, 1], or an item is given out twice.
    """

    menu: Float[Tensor, "menu bidders items"]
    boosts: Float[Tensor, " menu"]
    weights: Float[Tensor, " bidders"]

    def __post_init__(self) -> None:
        if not (self.weights > 0).all():
            raise ValueError(f"weights must be positive, got {self.weights.tolist()}")
        if self.menu.min() < 0 or self.menu.sum(1).max() > 1 + 1e-9:
            raise ValueError("a menu entry has a negative share or gives out an item more than once")

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        return self.menu.shape[1]

    @property
    def items(self) -> int:
        """Number of items."""
        return self.menu.shape[2]

    @property
    def truthful(self) -> bool:
        """Always."""
        return True

    def run(self, valuations: Float[Tensor, "batch bidders items"]) -> Outcome:
        """Run one auction per profile of reports, in chunks that bound memory to 2^24 welfare entries."""
        chunk = max(1, (1 << 24) // (len(self.boosts) * self.bidders))
        parts = [self._run(part) for part in torch.split(valuations, chunk)]
        return Outcome(
            allocation=torch.cat([part.allocation for part in parts]),
            payment=torch.cat([part.payment for part in parts]),
        )

    def chosen(self, valuations: Float[Tensor, "batch bidders items"]) -> Int[Tensor, " batch"]:
        """Return the number of the entry chosen at each profile."""
        chunk = max(1, (1 << 24) // (len(self.boosts) * self.bidders))
        return torch.cat([self._weighted(part)[1].argmax(-1) for part in torch.split(valuations, chunk)])

    def _weighted(
        self, valuations: Float[Tensor, "batch bidders items"]
    ) -> tuple[Float[Tensor, "batch menu bidders"], Float[Tensor, "batch menu"]]:
        weighted = torch.einsum("n,bni,kni->bkn", self.weights, valuations, self.menu)
        return weighted, weighted.sum(-1) + self.boosts  # (AMA-1)

    def _run(self, valuations: Float[Tensor, "batch bidders items"]) -> Outcome:
        weighted, welfare = self._weighted(valuations)
        chosen = welfare.argmax(-1)  # first of equals: an auditor must reach the same entry
        others = welfare.unsqueeze(-1) - weighted  # without each bidder in turn; payment is (AMA-2)
        payment = (others.amax(1) - others[torch.arange(len(chosen)), chosen]) / self.weights
        return Outcome(allocation=self.menu[chosen], payment=payment)


@final
@dataclass(frozen=True, slots=True, eq=False)
class IntegerAffineMaximizer:
    """The exact twin, from the definition in plain Python integers (AMA-3): the reference of the differential check.

    Attributes:
        menu: Shares in 2^-q of an item, shape (menu, bidders, items).
        boosts: In fine units times the weight unit, shape (menu,).
        weights: Integers of at least 1, shape (bidders,).
        bid_max: Bids are clamped to 0..bid_max, grid units.
    """

    menu: npt.NDArray[np.int64]
    boosts: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int64]
    bid_max: int

    def run(self, bids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return allocation (batch, bidders, items) in 2^-q of an item and payment (batch, bidders) in fine units."""
        allocations, payments = [], []
        for profile in np.clip(bids, 0, self.bid_max):
            # value[k, i] = v_i . A_k,i, an integer in fine units
            value = (profile[None].astype(object) * self.menu.astype(object)).sum(axis=2)
            weighted = value * self.weights.astype(object)
            welfare = weighted.sum(axis=1) + self.boosts.astype(object)
            chosen = int(np.argmax(welfare == welfare.max()))  # lowest index among the maximal
            others = welfare[:, None] - weighted
            payments.append([(others[:, i].max() - others[chosen, i]) // int(w) for i, w in enumerate(self.weights)])
            allocations.append(self.menu[chosen])
        return np.array(allocations, dtype=np.int64), np.array(payments, dtype=np.int64)
