"""The only place where values become integers of the bid grid and back (spec 2.12)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line starts without numpy
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class GridUnit:
    """The grid of an artifact: what one grid unit is worth, and the fine unit of payments.

    Attributes:
        unit: One grid unit, in units of value (10^-6, or 1 yen).
        bid_max: Largest bid, in grid units.
        share_bits: Payments count 2^-share_bits of a grid unit.
        name: What people call one grid unit.
    """

    unit: Fraction
    bid_max: int
    share_bits: int
    name: str

    def to_grid(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Round values to the nearest grid point, half to even, and clamp to 0..bid_max; any shape.

        Raises:
            ValueError: If a value is not finite.
        """
        import numpy as np

        if not np.isfinite(values).all():
            raise ValueError("a value is not finite")
        scaled = np.rint(values * float(1 / self.unit))
        return np.clip(scaled, 0, self.bid_max).astype(np.int64)

    def from_grid(self, bids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return grid units as values; any shape."""
        return bids.astype("float64") * float(self.unit)

    def payments(self, fine: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return payments in fine units as values; any shape."""
        return fine.astype("float64") * float(self.unit / (1 << self.share_bits))

    def shares(self, allocation: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return allocations in 2^-share_bits of an item as shares in [0, 1]; any shape."""
        return allocation.astype("float64") / (1 << self.share_bits)


def parse_decimal(text: str, unit: Fraction) -> int:
    """Convert a decimal text to the nearest grid unit, half to even.

    Raises:
        ValueError: If the text is no plain decimal number.
    """
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is no decimal number") from error
    if not value.is_finite() or not text.isascii() or "_" in text:
        raise ValueError(f"{text!r} is no decimal number")
    exact = Fraction(value) / unit
    return int((Decimal(exact.numerator) / Decimal(exact.denominator)).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def format_fine(amount: int, share_bits: int) -> str:
    """Return fine units as text in grid units, exact to three decimals and marked if rounded."""
    exact = Fraction(amount, 1 << share_bits)
    text = f"{float(exact):,.3f}".rstrip("0").rstrip(".")
    return text if Fraction(text.replace(",", "")) == exact else f"~{text}"


MICRO = Fraction(1, 1_000_000)
