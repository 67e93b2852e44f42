"""Affine maximizers over an explicit menu of lotteries, exact in integers (AMA-3, docs/adr/0002).

Units: bids v in grid units; menu A in 2^-q of an item; weights W_i >= 1, integers; boosts L_k in fine units times the
weight unit. The matrix in the argmax is exactly W_i times the awarded menu entry, welfare is never rounded, and the
payment floor((M_i - (best - W_i v_i.A_i)) / W_i) is floored in fine units: the utility is then the ceiling of the exact
utility, a monotone map, so truth stays dominant and utilities stay non-negative for any integer menu, boosts, weights.
"""

from __future__ import annotations

import numpy as np
import onnx

from protocol.artifact.classes.base import Core, MechanismClass, finish
from protocol.artifact.classes.fee import fee_class
from protocol.artifact.graph import BIDS, CHOICE, PAYMENT, Builder
from protocol.artifact.header import Header
from protocol.artifact.parameters import Parameters

MAX_BIDDERS = 300  # keeps the graph below the 2,000 nodes of hardening 2.8


def _schema(header: Header) -> dict[str, tuple[int, ...]]:
    return {"menu": (-1, header.bidders, header.items), "boosts": (-1,), "weights": (header.bidders,)}


def _core(b: Builder, parameters: Parameters, payment: str = "") -> Core:
    header = b.header
    menu, boosts, weights = (np.asarray(parameters[name]) for name in ("menu", "boosts", "weights"))
    present = b.op("Unsqueeze", b.present(), b.index(2))
    x = b.op("Where", present, b.clamped(BIDS, 0, header.bid_max), b.scalar(0))  # absent rows are zero (spec 2.13)
    reals = b.op("Cast", x, to="double")
    welfare = b.constant("boosts", boosts, np.float64)
    own_welfare = []
    for i in range(header.bidders):
        matrix = b.constant(f"weighted_{i}", (weights[i] * menu[:, i, :]).T, np.float64)
        own_welfare.append(b.op("MatMul", b.op("Gather", reals, b.scalar(i), axis=1), matrix))  # (batch, menu)
        welfare = b.op("Add", welfare, own_welfare[-1])
    choice = b.op("ArgMax", welfare, axis=1, name=CHOICE)
    best = b.op("Cast", b.op("ReduceMax", welfare, b.index(1)), to="int64")  # (batch, 1)
    rivals = [b.op("ReduceMax", b.op("Sub", welfare, own), b.index(1)) for own in own_welfare]
    without = b.op("Cast", b.op("Concat", *rivals, axis=1), to="int64")  # M_i, (batch, bidders)
    award = b.op("Gather", b.constant("menu", menu), choice, axis=0)
    value = b.op("MatMul", b.op("Mul", x, award), b.constant("ones", np.ones((header.items, 1))))
    worth = b.op("Squeeze", value, b.index(2))
    own_value = b.op("Mul", worth, b.constant("weights", weights))
    numerator = b.op("Sub", without, b.op("Sub", best, own_value))
    return Core(present, x, award, worth, b.op("Div", numerator, "weights", name=payment))


def _build(header: Header, parameters: Parameters) -> onnx.ModelProto:
    b = Builder(header)
    finish(b, _core(b, parameters, PAYMENT))
    b.output(CHOICE)
    return b.model(parameters)


def _check(header: Header, parameters: Parameters) -> list[str]:
    menu, boosts, weights = (np.asarray(parameters[name]) for name in ("menu", "boosts", "weights"))
    problems = []
    if header.context:
        problems.append("a menu affine maximizer takes no context")
    if header.ties != "lowest_index" or header.rounding != "floor":
        problems.append(f"ties {header.ties!r} and rounding {header.rounding!r}, wanted lowest_index and floor")
    if len(boosts) != len(menu) or not len(menu):
        problems.append(f"{len(boosts)} boosts for {len(menu)} menu entries")
    if header.bidders > MAX_BIDDERS:
        problems.append(f"{header.bidders} bidders, at most {MAX_BIDDERS}: the graph has six nodes for each")
    if (weights < 1).any():
        problems.append(f"weights must be at least 1, got {weights.tolist()}")
    if menu.size and menu.min() < 0:
        problems.append(f"menu entry {int(np.argwhere(menu < 0)[0][0])} has a negative share")
    over = menu.sum(axis=1) > header.unit_share
    if over.any():
        problems.append(f"menu entry {int(np.argwhere(over)[0][0])} awards more than the whole of an item")
    return problems


CLASS = MechanismClass(
    name="menu-affine",
    schema=_schema,
    build=_build,
    check=_check,
    theorem=(
        "Every affine maximizer with fixed menu, boosts and positive weights is dominant-strategy incentive compatible "
        "and individually rational (Roberts 1979); flooring payments in fine units keeps both for integer bids, since "
        "utility becomes the ceiling of the exact utility, a monotone map (docs/notation.md, AMA-3)."
    ),
    laws=("dsic", "ir", "feasibility", "non_negative_payments", "lowest_index_ties"),
)
WITH_FEE = fee_class(CLASS, _core)
