"""Values become integers of the grid and back in one place."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from credible.money import MICRO, GridUnit, format_fine, parse_decimal

GRID = GridUnit(MICRO, 10**6, 16, "1e-6")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_rounding_is_to_the_nearest_grid_point(values: list[float]) -> None:
    bids = GRID.to_grid(np.array(values))
    assert bids.dtype == np.int64
    assert (bids >= 0).all()
    assert (bids <= 10**6).all()
    assert (np.abs(GRID.from_grid(bids) - values) <= 0.5000001e-6).all()
    assert (GRID.to_grid(GRID.from_grid(bids)) == bids).all()


def test_out_of_range_values_are_clamped_and_others_refused() -> None:
    assert GRID.to_grid(np.array([-1.0, 2.0])).tolist() == [0, 10**6]
    with pytest.raises(ValueError, match="not finite"):
        GRID.to_grid(np.array([np.nan]))
    assert GRID.payments(np.array([65536])).tolist() == [1e-6]
    assert GRID.shares(np.array([32768])).tolist() == [0.5]


@pytest.mark.parametrize(
    ("text", "expected"), [("0.5", 50), ("1", 100), ("0.005", 0), ("0.015", 2), ("-0.5", -50), ("1e-2", 1)]
)
def test_decimal_texts(text: str, expected: int) -> None:
    assert parse_decimal(text, Fraction(1, 100)) == expected


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1_0", "\uff11", "1,5", "0x1"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no decimal number"):
        parse_decimal(text, Fraction(1, 100))


def test_fine_units_are_shown_exactly_or_marked() -> None:
    assert format_fine(3 << 15, 16) == "1.5"
    assert format_fine(1, 16) == "~0"
    assert format_fine(1000 << 16, 16) == "1,000"
