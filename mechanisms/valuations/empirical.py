"""Values drawn from recorded profiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Generator, Tensor


@final
@dataclass(frozen=True, slots=True, eq=False)
class Empirical:
    """Profiles drawn with replacement from a record; bidders of a profile in random order, absent bidders zero.

    Attributes:
        profiles: Recorded profiles, float64, in units of value; the row of an absent bidder is zero.
        shuffle: Whether seats are exchangeable: the order of bidders is then drawn anew in every sample.

    Raises:
        ValueError: If there is no profile, or a value is negative or not finite.
    """

    profiles: Float[Tensor, "records bidders items"]
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.profiles.ndim != 3 or not self.profiles.numel():
            raise ValueError(f"profiles have shape {tuple(self.profiles.shape)}, wanted (records, bidders, items)")
        if not torch.isfinite(self.profiles).all() or (self.profiles < 0).any():
            raise ValueError("a recorded value is negative or not finite")

    @property
    def bidders(self) -> int:
        """Seats of a profile."""
        return self.profiles.shape[1]

    @property
    def items(self) -> int:
        """Items of a profile."""
        return self.profiles.shape[2]

    @property
    def scale(self) -> float:
        """Twice the mean of the positive values."""
        positive = self.profiles[self.profiles > 0]
        return 2 * float(positive.mean()) if positive.numel() else 1.0

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        chosen = self.profiles[torch.randint(len(self.profiles), (count,), generator=generator)]
        if not self.shuffle:
            return chosen
        order = torch.rand(count, self.bidders, generator=generator).argsort(dim=1)
        return chosen.gather(1, order[:, :, None].expand(-1, -1, self.items))
