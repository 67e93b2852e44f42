"""Every item alone: second price with a reserve.

Reserve 0 is additive VCG, half the support Myerson for uniform values.
"""

from __future__ import annotations

import numpy as np
import onnx

from protocol.artifact.classes.base import MechanismClass
from protocol.artifact.graph import ALLOCATION, BIDS, PAYMENT, Builder
from protocol.artifact.header import Header
from protocol.artifact.parameters import Parameters


def _schema(header: Header) -> dict[str, tuple[int, ...]]:
    return {"reserves": (header.items,)}


def _build(header: Header, parameters: Parameters) -> onnx.ModelProto:
    b = Builder(header)
    present = b.op("Unsqueeze", b.present(), b.index(2))
    # -1 ranks an absent seat below every bid, so that it wins nothing even where all present bids are zero
    x = b.op("Where", present, b.clamped(BIDS, 0, header.bid_max), b.scalar(-1))
    reals = b.op("Cast", x, to="double")  # (batch, bidders, items)
    best = b.op("ReduceMax", reals, b.index(1))  # (batch, 1, items)
    winner = b.op("Unsqueeze", b.op("ArgMax", reals, axis=1), b.index(1))
    seats = b.constant("seats", np.arange(header.bidders).reshape(1, header.bidders, 1))
    is_winner = b.op("Equal", seats, winner)  # (batch, bidders, items)
    second = b.op("ReduceMax", b.op("Where", is_winner, b.scalar(-1, "double"), reals), b.index(1))
    reserves = b.constant("reserves", np.asarray(parameters["reserves"]))
    row = b.op("Unsqueeze", reserves, b.index(0, 1))  # (1, 1, items)
    integer_second = b.op("Cast", second, to="int64")
    price = b.op("Where", b.op("Less", integer_second, row), row, integer_second)
    # not (best < reserve), written with the operators of the profile
    unsold = b.op("Less", b.op("Cast", best, to="int64"), row)
    share = b.op("Where", unsold, b.scalar(0), b.scalar(header.unit_share))
    b.op("Where", is_winner, share, b.scalar(0), name=ALLOCATION)
    due = b.op("MatMul", b.op("Mul", ALLOCATION, price), b.constant("ones", np.ones((header.items, 1))))
    b.op("Squeeze", due, b.index(2), name=PAYMENT)
    b.output(ALLOCATION, header.bidders, header.items)
    b.output(PAYMENT, header.bidders)
    return b.model(parameters)


def _check(header: Header, parameters: Parameters) -> list[str]:
    problems = []
    reserves = np.asarray(parameters["reserves"])
    if header.context:
        problems.append("the reserves are fixed in this class; it takes no context")
    if header.ties != "lowest_index" or header.rounding != "exact":
        problems.append(f"ties {header.ties!r} and rounding {header.rounding!r}, wanted lowest_index and exact")
    if (reserves < 0).any():
        problems.append(f"reserves must not be negative, got {reserves.tolist()}")
    return problems


CLASS = MechanismClass(
    name="single-item-reserve",
    schema=_schema,
    build=_build,
    check=_check,
    theorem=(
        "A second-price auction with a reserve fixed before the bids is dominant-strategy incentive compatible and "
        "individually rational (Vickrey 1961, Myerson 1981); so are separate ones, for additive bidders."
    ),
    laws=("dsic", "ir", "feasibility", "non_negative_payments", "lowest_index_ties"),
)
