"""A fee set by the rivals' bids, with opt-out, on a class of affine maximizers; exact in integers (FEE-1 to FEE-3).

Each bidder's fee is a three-layer ReLU network of the other rows in seat order, in fixed point: z = inputs . weights +
bias, then max(0, z) divided by a power of two, rounded down. Only rivals' rows have weights in the file, so no report
moves the bidder's own fee. The fee itself is clamped at zero, never the total payment; a bidder whose utility is below
its fee gets and pays nothing. Its utility is then max(u - fee, 0), a monotone map of the exact one below.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from protocol.artifact.classes.base import Core, MechanismClass
from protocol.artifact.graph import ALLOCATION, PAYMENT, Builder
from protocol.artifact.header import Header
from protocol.artifact.parameters import Parameters

MAX_SHIFT = 50


def fee_class(base: MechanismClass, core: Callable[[Builder, Parameters], Core]) -> MechanismClass:
    """Return the class of a base's mechanisms with rival-only fees."""

    def schema(header: Header) -> dict[str, tuple[int, ...]]:
        n, m = header.bidders, header.items
        return {
            **base.schema(header),
            "fee_first": (n, -1, m, -1),
            "fee_first_bias": (n, -1),
            "fee_second": (n, -1, -1),
            "fee_second_bias": (n, -1),
            "fee_third": (n, -1),
            "fee_third_bias": (n,),
            "fee_shifts": (3,),
        }

    def build(header: Header, parameters: Parameters) -> onnx.ModelProto:
        b = Builder(header)
        below = core(b, parameters)
        fee = _fee(b, below.bids, parameters)
        leaves = b.op("Less", b.op("Sub", below.value, below.payment), fee)
        total = b.op("Add", below.payment, fee)
        b.op("Where", leaves, b.scalar(0), total, name=PAYMENT)
        kept = b.op("Where", b.op("Unsqueeze", leaves, b.index(2)), b.scalar(0), below.award)
        b.op("Where", below.present, kept, b.scalar(0), name=ALLOCATION)
        b.output(ALLOCATION, header.bidders, header.items)
        b.output(PAYMENT, header.bidders)
        return b.model(parameters)

    def check(header: Header, parameters: Parameters) -> list[str]:
        problems = base.check(header, parameters)
        if header.bidders < 2:
            problems.append("a fee set by the rivals' bids needs at least 2 bidders")
        rivals, hidden = parameters["fee_first"].shape[1], parameters["fee_first"].shape[3]
        wanted = {
            "fee_first_bias": hidden,
            "fee_second": hidden,
            "fee_second_bias": parameters["fee_second"].shape[2],
            "fee_third": parameters["fee_second"].shape[2],
        }
        if rivals != header.bidders - 1:
            problems.append(f"fee_first has weights for {rivals} rivals, wanted {header.bidders - 1}")
        problems += [
            f"{name} has shape {parameters[name].shape}, wanted {size} after the bidders"
            for name, size in wanted.items()
            if parameters[name].shape[1] != size
        ]
        shifts = parameters["fee_shifts"]
        if shifts.min() < 0 or shifts.max() > MAX_SHIFT:
            problems.append(f"fee_shifts are {shifts.tolist()}, wanted 0 to {MAX_SHIFT}")
        return problems

    return MechanismClass(
        name=f"{base.name}-fee",
        schema=schema,
        build=build,
        check=check,
        theorem=(
            f"{base.theorem} A fee computed from the rivals' bids alone, with opting out where utility is below it, "
            "turns utility into max(u - fee, 0), which is monotone and never negative (docs/notation.md, FEE-2)."
        ),
        laws=base.laws,
    )


def _fee(b: Builder, bids: str, parameters: Parameters) -> str:
    """Write the networks; return the fees in fine units, int64 of shape (batch, bidders)."""
    n = b.header.bidders
    first, second, third = (np.asarray(parameters[f"fee_{name}"]) for name in ("first", "second", "third"))
    for name in ("fee_first", "fee_second", "fee_third", "fee_shifts"):
        b.constant(name, parameters[name])
    hidden = first.shape[3]
    shifts = [int(shift) for shift in parameters["fee_shifts"]]
    reals = b.op("Cast", bids, to="double")
    total = b.constant("fee_first_bias_row", np.asarray(parameters["fee_first_bias"]).reshape(1, -1), np.float64)
    for rival in range(n):
        # the columns of a bidder's own network stay zero in its own row: its report does not reach its fee
        matrix = np.zeros((b.header.items, n, hidden), dtype=np.int64)
        for i in range(n):
            if i != rival:
                matrix[:, i] = first[i, rival - (rival > i)]
        weights = b.constant(f"fee_from_{rival}", matrix.reshape(b.header.items, n * hidden), np.float64)
        total = b.op("Add", total, b.op("MatMul", b.op("Gather", reals, b.scalar(rival), axis=1), weights))
    inner = _activate(b, total, shifts[0])
    fees = []
    for i in range(n):
        columns = b.constant(f"fee_columns_{i}", np.arange(i * hidden, (i + 1) * hidden))
        inputs = b.op("Cast", b.op("Gather", inner, columns, axis=1), to="double")
        matrix_2 = b.constant(f"fee_second_{i}", second[i], np.float64)
        bias_2 = b.constant(f"fee_second_bias_{i}", np.asarray(parameters["fee_second_bias"])[i][None], np.float64)
        outer = _activate(b, b.op("Add", b.op("MatMul", inputs, matrix_2), bias_2), shifts[1])
        matrix_3 = b.constant(f"fee_third_{i}", third[i][:, None], np.float64)
        bias_3 = b.scalar(int(parameters["fee_third_bias"][i]), "double")
        last = b.op("MatMul", b.op("Cast", outer, to="double"), matrix_3)
        fees.append(_activate(b, b.op("Add", last, bias_3), shifts[2]))
    for name in ("fee_first_bias", "fee_second_bias", "fee_third_bias"):
        b.constant(name, parameters[name])
    return b.op("Concat", *fees, axis=1)


def _activate(b: Builder, total: str, shift: int) -> str:
    """Write max(0, total) divided by 2^shift, rounded down; int64."""
    zero = b.scalar(0, "double")
    positive = b.op("Cast", b.op("Where", b.op("Less", total, zero), zero, total), to="int64")
    return b.op("Div", positive, b.scalar(1 << shift))
