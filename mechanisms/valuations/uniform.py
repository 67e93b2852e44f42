"""Independent uniform values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Generator, Tensor


@final
@dataclass(frozen=True, slots=True)
class Uniform:
    """Values independent and uniform on [low, high], for every bidder and item.

    Fingerprint of n bidders and m items on [0, 1]: VCG revenue m (n-1)/(n+1), surplus m n/(n+1).

    Raises:
        ValueError: If there is no bidder or item, or the interval is empty or negative.
    """

    bidders: int
    items: int
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.bidders < 1 or self.items < 1:
            raise ValueError(f"{self.bidders} bidders and {self.items} items, wanted at least one of each")
        if not 0 <= self.low < self.high:
            raise ValueError(f"interval [{self.low}, {self.high}], wanted 0 <= low < high")

    @property
    def scale(self) -> float:
        """Sum of the interval's ends: twice the mean."""
        return self.low + self.high

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value."""
        unit = torch.rand(count, self.bidders, self.items, generator=generator, dtype=torch.float64)
        return self.low + (self.high - self.low) * unit
