"""Aggregated auctions: who is present decides which stage auction is run (AGG-1 to AGG-4).

Source: credible-repeated-auctions, section 4.2 and section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechanisms.affine import IntegerSizeBoosted
from mechanisms.outcome import Mechanism, Outcome
from mechanisms.participation import all_profiles, profile_numbers


@final
@dataclass(frozen=True, slots=True, eq=False)
class Aggregated:
    """A stage auction for every participation profile, run among those who are present.

    Attributes:
        stages: Auctions of as many bidders as the profiles that use them; seats keep their order.
        stage_of: Index of the stage auction by profile number; not used for the profile of nobody.
        items: Number of items.

    Raises:
        ValueError: If a profile's stage auction is missing or is for another number of bidders or items.
    """

    stages: tuple[Mechanism, ...]
    stage_of: Int[Tensor, " profiles"]
    items: int

    def __post_init__(self) -> None:
        count = len(self.stage_of)
        if count != 1 << self.bidders or not self.bidders:
            raise ValueError(f"{count} profiles, wanted a power of two, at least 2")
        sizes = all_profiles(self.bidders).sum(1).tolist()
        for size, index in list(zip(sizes, self.stage_of.tolist(), strict=True))[1:]:
            if not 0 <= index < len(self.stages):
                raise ValueError(f"stage_of names auction {index}, there are {len(self.stages)}")
            stage = self.stages[index]
            if (stage.bidders, stage.items) != (size, self.items):
                raise ValueError(
                    f"a profile of {size} x {self.items} has an auction for {stage.bidders} x {stage.items}"
                )

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        return len(self.stage_of).bit_length() - 1

    @property
    def truthful(self) -> bool:
        """Whether every stage auction is (credible-repeated-auctions, Lemma 4.5; AGG-3)."""
        return all(stage.truthful for stage in self.stages)

    def run(
        self, valuations: Float[Tensor, "batch bidders items"], present: Bool[Tensor, "batch bidders"] | None = None
    ) -> Outcome:
        """Run one auction per profile of reports.

        Args:
            valuations: Reports; those of absent bidders do not matter.
            present: Who is there; as printed in the paper, who bids anything above zero, if left out (AGG-4).
        """
        here = (valuations > 0).any(2) if present is None else present
        allocation, payment = torch.zeros_like(valuations), torch.zeros_like(valuations[:, :, 0])
        numbers = profile_numbers(here)
        order = numbers.argsort(stable=True)
        found, counts = torch.unique_consecutive(numbers[order], return_counts=True)
        for number, rows in zip(found.tolist(), torch.split(order, counts.tolist()), strict=True):
            if number == 0:
                continue
            seats = here[rows[0]].nonzero()[:, 0]
            outcome = self.stages[int(self.stage_of[number])].run(valuations[rows[:, None], seats])
            allocation[rows[:, None], seats] = outcome.allocation
            payment[rows[:, None], seats] = outcome.payment
        return Outcome(allocation=allocation, payment=payment)


@final
@dataclass(frozen=True, slots=True, eq=False)
class IntegerAggregated:
    """The exact twin, in plain Python integers: the present bidders' own recursion in every round.

    Attributes:
        stages: By profile number, the auction among those present; None for the profile of nobody.
    """

    stages: tuple[IntegerSizeBoosted | None, ...]

    def run(
        self, bids: npt.NDArray[np.int64], present: npt.NDArray[np.int64] | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return allocation (batch, bidders, items) in 2^-q of an item and payment (batch, bidders) in fine units."""
        allocation, payment = np.zeros_like(bids), np.zeros_like(bids[:, :, 0])
        for row, profile in enumerate(bids):
            here = np.ones(bids.shape[1], dtype=bool) if present is None else present[row] > 0
            stage = self.stages[int("".join("1" if bit else "0" for bit in here), 2)]
            if stage is not None:
                shares, due = stage.run(profile[None, here])
                allocation[row, here], payment[row, here] = shares[0], due[0]
        return allocation, payment
