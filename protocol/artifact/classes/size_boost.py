"""Affine maximizers over all deterministic allocations, boosted by bundle sizes, exact in integers (SIZE-1 to SIZE-4).

The menu has (n+1)^m entries and is never written out: a dynamic programme over items finds the best one. Its state is
the vector of how many items each bidder has so far. After t items every vector of sum at most t can be reached; with
the vectors sorted by sum those are a prefix of all of them, so one numbering serves every step.

Units as in `menu_affine`: bids in grid units, boosts in fine units times the weight unit, payments floored in fine
units.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import comb

import numpy as np
import numpy.typing as npt
import onnx

from protocol.artifact.classes.base import Core, MechanismClass, finish
from protocol.artifact.classes.fee import fee_class
from protocol.artifact.graph import BIDS, PAYMENT, Builder
from protocol.artifact.header import Header
from protocol.artifact.parameters import Parameters

MAX_STATES = 20_000  # of the whole programme: 5 x 10 has 3,003


def size_vectors(bidders: int, items: int) -> npt.NDArray[np.int64]:
    """Return the vectors of bundle sizes in the order of the boosts: by sum, then ascending; shape (states, bidders).

    There are C(items + bidders, bidders); the first C(t + bidders, bidders) are those of sum at most t.
    """
    rows = []
    for total in range(items + 1):
        layer = set()
        for chosen in combinations_with_replacement(range(bidders), total):
            layer.add(tuple(chosen.count(i) for i in range(bidders)))
        rows += sorted(layer)
    return np.array(rows, dtype=np.int64).reshape(len(rows), bidders)


def transitions(bidders: int, items: int) -> npt.NDArray[np.int64]:
    """Return the state after one more item, by owner (0: unsold) and state of sum below `items`.

    Shape (bidders + 1, C(items - 1 + bidders, bidders)).
    """
    vectors = size_vectors(bidders, items)
    number = {tuple(row): index for index, row in enumerate(vectors.tolist())}
    before = vectors[: comb(items - 1 + bidders, bidders)]
    steps = [before, *(before + np.eye(bidders, dtype=np.int64)[i] for i in range(bidders))]
    return np.array([[number[tuple(row)] for row in step.tolist()] for step in steps], dtype=np.int64)


def without(boosts: npt.NDArray[np.int64], bidders: int, items: int, bidder: int) -> npt.NDArray[np.int64]:
    """Return the boosts that the others see when one bidder's values are zero: its size is what is best (SIZE-3).

    Boosts have shape (..., states), the result (..., states of the others).
    """
    number = {tuple(row): index for index, row in enumerate(size_vectors(bidders - 1, items).tolist())}
    others = np.delete(size_vectors(bidders, items), bidder, axis=1).tolist()
    index = np.array([number[tuple(row)] for row in others], dtype=np.int64)
    order = np.argsort(index, kind="stable")
    first = np.searchsorted(index[order], np.arange(len(number)))
    best: npt.NDArray[np.int64] = np.maximum.reduceat(boosts[..., order], first, axis=-1)
    return best


def _schema(header: Header) -> dict[str, tuple[int, ...]]:
    return {"boosts": (comb(header.items + header.bidders, header.bidders),), "weights": (header.bidders,)}


def programme(b: Builder, welfare: str, rows: list[int], value: str) -> list[str]:
    """Write the programme for some bidders; return the owners by step and, last, the optimum (batch, 1).

    Value-to-go: U_m = boosts, U_t(k) = max(U_{t+1}(k), max over i of welfare[i, t] + U_{t+1}(k + e_i)) (SIZE-2).

    Args:
        b: The graph.
        welfare: Weighted values, double, (batch, bidders, items).
        rows: Seats of these bidders.
        value: Boosts in the order of `size_vectors`, double, (batch or 1, states).
    """
    count, items = len(rows), b.header.items
    moves = transitions(count, items)
    seller = b.constant(f"unsold_{count}", np.arange(count + 1).reshape(count + 1, 1) == 0, np.bool_)
    picked = b.op("Gather", welfare, b.index(rows[0], *rows), axis=1)  # row 0 stands for nobody
    gains = b.op("Where", seller, b.scalar(0, "double"), picked)
    owners = []
    for step in reversed(range(items)):
        states = comb(step + count, count)
        after = b.constant(f"after_{count}_{step}", moves[:, :states])
        gain = b.op("Unsqueeze", b.op("Gather", gains, b.scalar(step), axis=2), b.index(2))
        reached = b.op("Add", b.op("Gather", value, after, axis=1), gain)  # (batch, owner, state)
        owners.append(b.op("ArgMax", reached, axis=1))  # lowest owner that reaches the optimum
        value = b.op("Squeeze", b.op("ReduceMax", reached, b.index(1)), b.index(1))
    return [*reversed(owners), value]


def _core(b: Builder, parameters: Parameters, payment: str = "") -> Core:
    header = b.header
    boosts, weights = (np.asarray(parameters[name]) for name in ("boosts", "weights"))
    n, m = header.bidders, header.items
    b.constant("boosts", boosts)
    present = b.op("Unsqueeze", b.present(), b.index(2))
    x = b.op("Where", present, b.clamped(BIDS, 0, header.bid_max), b.scalar(0))  # absent rows are zero (spec 2.13)
    factor = b.constant("factor", (weights * header.unit_share).reshape(n, 1))
    welfare = b.op("Cast", b.op("Mul", x, factor), to="double")
    every = b.constant("boosts_all", boosts.reshape(1, -1), np.float64)
    *tables, optimum = programme(b, welfare, list(range(n)), every)
    best = b.op("Cast", optimum, to="int64")  # (batch, 1)
    rivals = []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        if others:
            relaxed = b.constant(f"boosts_without_{i}", without(boosts, n, m, i).reshape(1, -1), np.float64)
            rivals.append(programme(b, welfare, others, relaxed)[-1])
        else:
            zero = b.op("Sub", optimum, optimum)
            rivals.append(b.op("Add", zero, b.scalar(int(boosts.max()), "double")))
    left = b.op("Cast", b.op("Concat", *rivals, axis=1) if n > 1 else rivals[0], to="int64")  # M_i, (batch, bidders)
    awarded = awards(b, tables)

    value = b.op("MatMul", b.op("Where", awarded, x, b.scalar(0)), b.constant("ones", np.ones((m, 1))))
    worth = b.op("Mul", b.op("Squeeze", value, b.index(2)), b.scalar(header.unit_share))
    own = b.op("Mul", worth, b.constant("weights", weights))
    numerator = b.op("Sub", left, b.op("Sub", best, own))
    share = b.op("Where", awarded, b.scalar(header.unit_share), b.scalar(0))
    return Core(present, x, share, worth, b.op("Div", numerator, "weights", name=payment))


def awards(b: Builder, tables: list[str]) -> str:
    """Write the walk through the owners by step; return who gets what, boolean (batch, bidders, items) (SIZE-4)."""
    n, m = b.header.bidders, b.header.items
    moves = transitions(n, m)
    owners = [b.op("Squeeze", tables[0], b.index(1))]
    state = ""  # only one before the first item
    for step in range(1, m):
        before, states = comb(step - 1 + n, n), comb(step + n, n)
        flat = b.constant(f"moves_{step}", moves[:, :before].ravel())
        row = b.op("Add", b.op("Mul", owners[-1], b.scalar(before)), state) if state else owners[-1]
        state = b.op("Gather", flat, row, axis=0)
        numbers = b.constant(f"states_{step}", np.arange(states).reshape(1, states))
        here = b.op("Equal", numbers, b.op("Unsqueeze", state, b.index(1)))
        table = b.op("Where", here, b.op("Cast", tables[step], to="double"), b.scalar(0, "double"))
        owner = b.op("Squeeze", b.op("ReduceMax", table, b.index(1)), b.index(1))
        owners.append(b.op("Cast", owner, to="int64"))
    columns = [b.op("Unsqueeze", owner, b.index(1, 2)) for owner in owners]
    word = b.op("Concat", *columns, axis=2) if m > 1 else columns[0]  # (batch, 1, items)
    seats = b.constant("seats", np.arange(1, n + 1).reshape(n, 1))
    return b.op("Equal", seats, word)


def _build(header: Header, parameters: Parameters) -> onnx.ModelProto:
    b = Builder(header)
    finish(b, _core(b, parameters, PAYMENT))
    return b.model(parameters)


def check_programme(header: Header, weights: npt.NDArray[np.int64]) -> list[str]:
    """Return what fails of a class that runs the programme: its size, context, ties, rounding, weights of any shape."""
    problems = []
    states = comb(header.items + header.bidders, header.bidders)
    if states > MAX_STATES:
        problems.append(
            f"{header.bidders} bidders and {header.items} items have {states} size vectors, at most {MAX_STATES}"
        )
    if header.context:
        problems.append(f"class {header.kind} takes no context, got {', '.join(header.context)}")
    if header.ties != "lowest_owner" or header.rounding != "floor":
        problems.append(f"ties {header.ties!r} and rounding {header.rounding!r}, wanted lowest_owner and floor")
    if (weights < 1).any():
        problems.append(f"weights must be at least 1, got {int(weights.min())}")
    return problems


def _check(header: Header, parameters: Parameters) -> list[str]:
    return check_programme(header, np.asarray(parameters["weights"]))


CLASS = MechanismClass(
    name="size-boost",
    schema=_schema,
    build=_build,
    check=_check,
    theorem=(
        "An affine maximizer over all deterministic allocations, whatever boosts the vectors of bundle sizes have, is "
        "dominant-strategy incentive compatible and individually rational (Roberts 1979); the dynamic programme "
        "maximizes exactly (docs/notation.md, SIZE-2), and flooring payments in fine units keeps both (AMA-3)."
    ),
    laws=("dsic", "ir", "feasibility", "non_negative_payments", "lowest_owner_ties"),
)
WITH_FEE = fee_class(CLASS, _core)
