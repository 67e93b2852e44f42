"""First price for one item, with public per-round context; not truthful, and says so.

Forward: context `reserve`; a bid is admissible if it is at least the reserve. Procurement, run as a forward auction
for the discount below the announced reserve (bid = reserve - price): context `reserve` and `minimum`, the highest and
lowest admissible price; a discount is admissible if it is at most reserve - minimum. The highest admissible bid wins
and pays itself; ties share the item evenly, the remainder of 2^share_bits goes to the lowest index (spec 2.13).
"""

from __future__ import annotations

import numpy as np
import onnx

from protocol.artifact.classes.base import MechanismClass
from protocol.artifact.graph import ALLOCATION, BIDS, CONTEXT, PAYMENT, Builder
from protocol.artifact.header import Header
from protocol.artifact.parameters import Parameters

FORWARD = ["reserve"]
PROCUREMENT = ["reserve", "minimum"]


def _schema(header: Header) -> dict[str, tuple[int, ...]]:
    return {}


def _build(header: Header, parameters: Parameters) -> onnx.ModelProto:
    b = Builder(header)
    bids = b.clamped(b.op("Squeeze", BIDS, b.index(2)), 0, header.bid_max)  # (batch, bidders)
    context = b.clamped(CONTEXT, 0, header.bid_max)
    reserve = b.op("Gather", context, b.index(0), axis=1)  # (batch, 1)
    if header.context == PROCUREMENT:
        highest = b.op("Sub", reserve, b.op("Gather", context, b.index(1), axis=1))
        refused = b.op("Greater", bids, highest)
    else:
        refused = b.op("Less", bids, reserve)
    admissible = b.op("Where", refused, b.scalar(-1), bids)
    ranked = b.op("Where", b.present(), admissible, b.scalar(-1))
    reals = b.op("Cast", ranked, to="double")
    best = b.op("ReduceMax", reals, b.index(1))  # (batch, 1), -1 if nobody is admissible
    first = b.op("Unsqueeze", b.op("ArgMax", reals, axis=1), b.index(1))
    ties = b.op("Cast", b.op("Equal", reals, best), to="double")
    count = b.op("Cast", b.op("ReduceSum", ties, b.index(1)), to="int64")  # at least 1: the best equals itself
    divisor = b.op("Where", b.op("Less", count, b.scalar(1)), b.scalar(1), count)  # for the interval proof
    share = b.op("Div", b.scalar(header.unit_share), divisor)
    remainder = b.op("Sub", b.scalar(header.unit_share), b.op("Mul", share, divisor))
    seats = b.constant("seats", np.arange(header.bidders).reshape(1, header.bidders))
    extra = b.op("Where", b.op("Equal", seats, first), remainder, b.scalar(0))
    sold = b.op("Where", b.op("Less", b.op("Cast", best, to="int64"), b.scalar(0)), b.scalar(0), b.scalar(1))
    even = b.op("Mul", b.op("Cast", ties, to="int64"), b.op("Mul", share, sold))
    award = b.op("Add", even, b.op("Mul", extra, sold))  # (batch, bidders)
    b.op("Mul", award, bids, name=PAYMENT)
    b.op("Unsqueeze", award, b.index(2), name=ALLOCATION)
    b.output(ALLOCATION, header.bidders, 1)
    b.output(PAYMENT, header.bidders)
    return b.model(parameters)


def _check(header: Header, parameters: Parameters) -> list[str]:
    problems = []
    if header.items != 1:
        problems.append(f"first price is for one item, the header says {header.items}")
    if header.context not in (FORWARD, PROCUREMENT):
        problems.append(f"context is {header.context}, wanted {FORWARD} or {PROCUREMENT}")
    if header.ties != "share_evenly" or header.rounding != "exact":
        problems.append(f"ties {header.ties!r} and rounding {header.rounding!r}, wanted share_evenly and exact")
    return problems


CLASS = MechanismClass(
    name="first-price",
    schema=_schema,
    build=_build,
    check=_check,
    theorem=None,  # paying one's own bid rewards shading it
    laws=("ir", "feasibility", "non_negative_payments", "even_ties"),
)
