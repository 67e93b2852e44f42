"""Networks in fixed point, additive and unit demand: exact, individually rational, feasible, not certified truthful.

Units: bids in grid units; activations, logits and biases of hidden layers in 2^-14 and their sums in 2^-28; shares in
2^-q of an item. A layer is a product of integers in float64, exact below 2^53, a floored division to the index of a
table, and the table: the activation (tanh, or a ramp that stands for ReLU), exp and the logistic function are in the
file, so no library's rounding enters. The share of an item is e_i 2^q / sum e, floored, so an item is never given out
more than once; a payment is the bid for the shares times a part in 2^-q, floored, so nobody pays more than it bid
(docs/notation.md, NET-8).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx

from protocol.artifact.classes.base import MechanismClass
from protocol.artifact.graph import ALLOCATION, BIDS, PAYMENT, Builder
from protocol.artifact.header import Header
from protocol.artifact.parameters import Parameters

ACTIVATION_BITS: Final = 14  # of activations, and of weights after the first layer
STEP_BITS: Final = 10  # a table has 2^10 entries for a unit of its argument
SUM_BITS: Final = 2 * ACTIVATION_BITS  # of a sum after the first layer
SHIFT: Final = SUM_BITS - STEP_BITS  # from such a sum to a table's index
EXP_TOP: Final = 1 << 24  # largest entry of the table of exp
MAX_TABLE: Final = 1 << 17
MAX_HIDDEN: Final = 16  # layers
TOWERS: Final = ("allot", "pay")
UNIT_TOWERS: Final = ("allot", "want", "pay")  # of the class for unit demand


def towers_of(kind: str) -> tuple[str, ...]:
    """Return the perceptrons of a class: that for unit demand has one more."""
    return UNIT_TOWERS if kind == UNIT.name else TOWERS


def _schema(header: Header) -> dict[str, tuple[int, ...]]:
    n, m = header.bidders, header.items
    inputs = n * m
    outputs = {"allot": (n + 1) * m, "want": n * (m + 1), "pay": n}
    shapes: dict[str, tuple[int, ...]] = {"shift": (1,), "activation": (-1,), "exp": (-1,), "logistic": (-1,)}
    for tower in towers_of(header.kind):
        shapes |= {
            f"{tower}_first": (inputs, -1), f"{tower}_first_bias": (-1,),
            f"{tower}_hidden": (-1, -1, -1), f"{tower}_hidden_bias": (-1, -1),
            f"{tower}_last": (-1, outputs[tower]), f"{tower}_last_bias": (outputs[tower],),
        }  # fmt: skip
    return shapes


def _index(b: Builder, sums: str, shift: int, centre: int, size: int) -> str:
    """Return floor(sums / 2^shift) + centre, kept within 0..size - 1; `sums` is int64."""
    moved = b.op("Add", sums, b.scalar(centre << shift))
    return b.op("Div", b.clamped(moved, 0, (size << shift) - 1), b.scalar(1 << shift))


def _layer(b: Builder, signal: str, name: str, weights: np.ndarray, bias: np.ndarray) -> str:
    """Return signal W + b as float64; every partial sum is an exact integer."""
    product = b.op("MatMul", signal, b.constant(name, weights, np.float64))
    return b.op("Add", product, b.constant(f"{name}_bias", bias, np.float64))


def _tower(b: Builder, flat: str, parameters: Parameters, name: str) -> str:
    """Return the last hidden activations of a tower, float64 in 2^-14."""
    activation = np.asarray(parameters["activation"])
    table, entries = b.constant("activation", activation, np.float64), len(activation)
    centre, shift = entries // 2, int(parameters["shift"][0])
    first, first_bias = parameters[f"{name}_first"], parameters[f"{name}_first_bias"]
    sums = b.op("Cast", _layer(b, flat, f"{name}_first", first, first_bias), to="int64")
    signal = b.op("Gather", table, _index(b, sums, shift, centre, entries), axis=0)
    hidden, hidden_bias = parameters[f"{name}_hidden"], parameters[f"{name}_hidden_bias"]
    for layer in range(len(hidden)):
        sums = b.op("Cast", _layer(b, signal, f"{name}_hidden_{layer}", hidden[layer], hidden_bias[layer]), to="int64")
        signal = b.op("Gather", table, _index(b, sums, SHIFT, centre, entries), axis=0)
    return signal


def _build(header: Header, parameters: Parameters) -> onnx.ModelProto:
    b = Builder(header)
    n, m = header.bidders, header.items
    present = b.op("Unsqueeze", b.present(), b.index(2))
    x = b.op("Where", present, b.clamped(BIDS, 0, header.bid_max), b.scalar(0))  # absent rows are zero (spec 2.13)
    reals = b.op("Cast", x, to="double")
    flat = b.op("Concat", *[b.op("Gather", reals, b.scalar(i), axis=1) for i in range(n)], axis=1)  # (batch, n m)
    for name in towers_of(header.kind):  # stacked parameters are part of the file as they are
        b.constant(f"{name}_hidden", parameters[f"{name}_hidden"])
        b.constant(f"{name}_hidden_bias", parameters[f"{name}_hidden_bias"])
        b.constant(f"{name}_last", parameters[f"{name}_last"])
        b.constant(f"{name}_last_bias", parameters[f"{name}_last_bias"])
    b.constant("shift", parameters["shift"])
    signal = _tower(b, flat, parameters, "allot")
    last, last_bias = parameters["allot_last"], parameters["allot_last_bias"]
    logits = []
    for seat in range(n + 1):  # the last one is nobody
        part = slice(seat * m, (seat + 1) * m)
        logits.append(_layer(b, signal, f"seat_{seat}", last[:, part], last_bias[part]))  # (batch, m)
    stacked = b.op("Concat", *[b.op("Unsqueeze", logit, b.index(1)) for logit in logits], axis=1)
    top = b.op("Squeeze", b.op("ReduceMax", stacked, b.index(1)), b.index(1))
    exp = np.asarray(parameters["exp"])
    table = b.constant("exp", exp)
    powers = []
    for logit in logits:
        below = b.op("Cast", b.op("Sub", top, logit), to="int64")
        powers.append(b.op("Gather", table, _index(b, below, SHIFT, 0, len(exp)), axis=0))
    total = powers[0]
    for power in powers[1:]:
        total = b.op("Add", total, power)
    wanted = _wanted(b, flat, parameters, table, len(exp)) if header.kind == UNIT.name else []
    shares = []
    for seat, power in enumerate(powers[:n]):
        share = b.op("Div", b.op("Mul", power, b.scalar(header.unit_share)), total)
        share = b.clamped(share, 0, header.unit_share)  # for the interval proof
        if wanted:  # the smaller of the two: rows and columns sum to a whole at most
            share = b.op("Where", b.op("Less", wanted[seat], share), wanted[seat], share)
        shares.append(b.op("Unsqueeze", share, b.index(1)))
    award = b.op("Where", present, b.op("Concat", *shares, axis=1), b.scalar(0), name=ALLOCATION)
    value = b.op("MatMul", b.op("Mul", x, award), b.constant("ones", np.ones((m, 1))))
    worth = b.op("Squeeze", value, b.index(2))
    signal = _tower(b, flat, parameters, "pay")
    logistic = np.asarray(parameters["logistic"])
    asked = _layer(b, signal, "fractions", parameters["pay_last"], parameters["pay_last_bias"])
    at = _index(b, b.op("Cast", asked, to="int64"), SHIFT, len(logistic) // 2, len(logistic))
    part_paid = b.op("Gather", b.constant("logistic", logistic), at, axis=0)
    b.op("Div", b.op("Mul", worth, part_paid), b.scalar(header.unit_share), name=PAYMENT)
    b.output(ALLOCATION, n, m)
    b.output(PAYMENT, n)
    return b.model(parameters)


def _wanted(b: Builder, flat: str, parameters: Parameters, table: str, entries: int) -> list[str]:
    """Return what each bidder wants of each item at most, (batch, items) each: its softmax over items and none."""
    n, m = b.header.bidders, b.header.items
    signal = _tower(b, flat, parameters, "want")
    last, last_bias = parameters["want_last"], parameters["want_last_bias"]
    ones, real = b.constant("wants", np.ones((m + 1, 1))), b.constant("real_items", np.arange(m))
    shares = []
    for seat in range(n):
        part = slice(seat * (m + 1), (seat + 1) * (m + 1))  # the last one is none
        logits = _layer(b, signal, f"want_{seat}", last[:, part], last_bias[part])  # (batch, items + 1)
        below = b.op("Cast", b.op("Sub", b.op("ReduceMax", logits, b.index(1)), logits), to="int64")
        powers = b.op("Gather", table, _index(b, below, SHIFT, 0, entries), axis=0)
        share = b.op("Div", b.op("Mul", powers, b.scalar(b.header.unit_share)), b.op("MatMul", powers, ones))
        shares.append(b.clamped(b.op("Gather", share, real, axis=1), 0, b.header.unit_share))
    return shares


def _check(header: Header, parameters: Parameters) -> list[str]:
    problems = []
    if header.context:
        problems.append("a network takes no context")
    if header.ties != "lowest_index" or header.rounding != "floor":
        problems.append(f"ties {header.ties!r} and rounding {header.rounding!r}, wanted lowest_index and floor")
    shift = int(parameters["shift"][0])
    if not 1 <= shift <= 40:
        problems.append(f"shift is {shift}, wanted 1 to 40")
    for name in ("activation", "exp", "logistic"):
        table = np.asarray(parameters[name])
        if not 2 <= len(table) <= MAX_TABLE:
            problems.append(f"table {name} has {len(table)} entries, wanted 2 to {MAX_TABLE}")
            return problems
    activation, exp, logistic = (np.asarray(parameters[name]) for name in ("activation", "exp", "logistic"))
    if np.abs(activation).max() > 1 << ACTIVATION_BITS or (np.diff(activation) < 0).any():
        problems.append("table activation leaves -1 to 1 or falls")
    if exp.min() < 1 or exp.max() > EXP_TOP or (np.diff(exp) > 0).any():
        problems.append(f"table exp leaves 1 to {EXP_TOP} or rises")
    if logistic.min() < 0 or logistic.max() > header.unit_share or (np.diff(logistic) < 0).any():
        problems.append("table logistic leaves 0 to 1 or falls")
    for tower in towers_of(header.kind):
        hidden = parameters[f"{tower}_hidden"]
        width = parameters[f"{tower}_first"].shape[1]
        wanted = {
            f"{tower}_first_bias": (width,), f"{tower}_hidden": (len(hidden), width, width),
            f"{tower}_hidden_bias": (len(hidden), width),
            f"{tower}_last": (width, parameters[f"{tower}_last"].shape[1]),
        }  # fmt: skip
        for name, shape in wanted.items():
            if parameters[name].shape != shape:
                problems.append(f"{name} has shape {parameters[name].shape}, wanted {shape}")
        if not 1 <= len(hidden) <= MAX_HIDDEN:
            problems.append(f"{tower} has {len(hidden)} layers after the first, wanted 1 to {MAX_HIDDEN}")
    return problems


CLASS = MechanismClass(
    name="network",
    schema=_schema,
    build=_build,
    check=_check,
    theorem=None,  # truthful only as far as it was trained to be
    laws=("ir", "feasibility", "non_negative_payments"),
)

UNIT = MechanismClass(
    name="network-unit-demand",
    schema=_schema,
    build=_build,
    check=_check,
    theorem=None,
    laws=("ir", "feasibility", "non_negative_payments", "unit_demand"),
)
