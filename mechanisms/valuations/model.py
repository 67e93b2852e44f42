"""What every valuation model offers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Generator, Tensor


@runtime_checkable
class ValuationModel(Protocol):
    """A distribution of valuation profiles of additive bidders."""

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        ...

    @property
    def items(self) -> int:
        """Number of items."""
        ...

    @property
    def scale(self) -> float:
        """Twice a typical value of one item, in units of value: 1 for U[0, 1]; training works on values over scale."""
        ...

    def sample(self, count: int, generator: Generator) -> Float[Tensor, "count bidders items"]:
        """Draw profiles, float64, in units of value; the generator alone decides."""
        ...


def check_size(bidders: int, items: int) -> None:
    """Raise ValueError unless there is at least one bidder and one item."""
    if bidders < 1 or items < 1:
        raise ValueError(f"{bidders} bidders and {items} items, wanted at least one of each")
