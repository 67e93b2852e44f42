"""Aggregated auctions: one size-boosted affine maximizer for every participation profile (AGG-1 to AGG-4).

Who is present decides which row of boosts and weights applies; absent seats can be handed nothing. Profiles may share a
row. The auctioneer does not state it: the mask is an input that everybody derives anew from signed presence,
commitments and openings (spec 3.13). A bidder that colludes may still withhold its opening, which the forfeit prices
(spec 9.9).
"""

from __future__ import annotations

from math import comb
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx

from protocol.artifact.classes.base import Core, MechanismClass, finish
from protocol.artifact.classes.size_boost import awards, check_programme, programme, without
from protocol.artifact.graph import BIDS, PAYMENT, Builder
from protocol.artifact.header import Header
from protocol.artifact.parameters import Parameters

MAX_BIDDERS: Final = 12  # 4,096 profiles


def _schema(header: Header) -> dict[str, tuple[int, ...]]:
    profiles = 1 << min(header.bidders, MAX_BIDDERS)
    states = comb(header.items + header.bidders, header.bidders)
    return {"stage_of": (profiles,), "boosts": (-1, states), "weights": (-1, header.bidders)}


def _stage(b: Builder, stage_of: npt.NDArray[np.int64]) -> str:
    """Write the row of the present bidders' stage auction, int64 (batch,); seat 1 is the highest binary digit."""
    n = b.header.bidders
    digits = b.constant("digits", (1 << np.arange(n)[::-1]).reshape(n, 1), np.float64)
    bits = b.op("Where", b.present(), b.scalar(1, "double"), b.scalar(0, "double"))
    number = b.op("Cast", b.op("Squeeze", b.op("MatMul", bits, digits), b.index(1)), to="int64")
    return b.op("Gather", b.constant("stage_of", stage_of), number, axis=0)


def _build(header: Header, parameters: Parameters) -> onnx.ModelProto:
    b = Builder(header)
    boosts, weights = (np.asarray(parameters[name]) for name in ("boosts", "weights"))
    n, m = header.bidders, header.items
    b.constant("boosts", boosts)
    stage = _stage(b, np.asarray(parameters["stage_of"]))
    here = b.present()
    present = b.op("Unsqueeze", here, b.index(2))
    x = b.op("Where", present, b.clamped(BIDS, 0, header.bid_max), b.scalar(0))
    weight = b.op("Gather", b.constant("weights", weights), stage, axis=0)  # (batch, bidders)
    factor = b.op("Mul", b.op("Unsqueeze", weight, b.index(2)), b.scalar(header.unit_share))
    # an item of an absent seat costs more than any boost can bring, so it is better unsold (AGG-2)
    barred = -int(boosts.max() - boosts.min() + 1)
    valued = b.op("Cast", b.op("Mul", x, factor), to="double")
    welfare = b.op("Where", present, valued, b.scalar(barred, "double"))

    table = b.constant("boosts_all", boosts, np.float64)
    *tables, optimum = programme(b, welfare, list(range(n)), b.op("Gather", table, stage, axis=0))
    best = b.op("Cast", optimum, to="int64")  # (batch, 1)
    rivals = []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        relaxed = b.constant(f"boosts_without_{i}", without(boosts, n, m, i), np.float64)  # (stages, rival states)
        row = b.op("Gather", relaxed, stage, axis=0)
        rivals.append(programme(b, welfare, others, row)[-1] if others else row)
    left = b.op("Cast", b.op("Concat", *rivals, axis=1) if n > 1 else rivals[0], to="int64")  # M_i, (batch, bidders)
    awarded = awards(b, tables)

    value = b.op("MatMul", b.op("Where", awarded, x, b.scalar(0)), b.constant("ones", np.ones((m, 1))))
    worth = b.op("Mul", b.op("Squeeze", value, b.index(2)), b.scalar(header.unit_share))
    numerator = b.op("Sub", left, b.op("Sub", best, b.op("Mul", worth, weight)))
    due = b.op("Div", numerator, weight)
    share = b.op("Where", awarded, b.scalar(header.unit_share), b.scalar(0))
    finish(b, Core(present, x, share, worth, b.op("Where", here, due, b.scalar(0), name=PAYMENT)))
    return b.model(parameters)


def _check(header: Header, parameters: Parameters) -> list[str]:
    stage_of, boosts, weights = (np.asarray(parameters[name]) for name in ("stage_of", "boosts", "weights"))
    problems = check_programme(header, weights)
    if header.bidders > MAX_BIDDERS:
        problems.append(f"{header.bidders} bidders have too many profiles, at most {MAX_BIDDERS} bidders")
    if not len(boosts) or len(boosts) != len(weights):
        problems.append(f"{len(boosts)} rows of boosts and {len(weights)} of weights, wanted as many, at least one")
    elif (stage_of < 0).any() or (stage_of >= len(boosts)).any():
        problems.append(f"stage_of names rows {int(stage_of.min())} to {int(stage_of.max())}, there are {len(boosts)}")
    return problems


CLASS = MechanismClass(
    name="aggregated",
    schema=_schema,
    build=_build,
    check=_check,
    theorem=(
        "For every participation profile the stage auction is an affine maximizer over the deterministic allocations "
        "to present bidders, dominant-strategy incentive compatible and individually rational (Roberts 1979; "
        "docs/notation.md, AGG-2); a bidder that stays away or bids zero ends with utility zero, which truth never "
        "falls below (AGG-3), so the aggregated auction is so too (credible-repeated-auctions, Lemma 4.5)."
    ),
    laws=("dsic", "ir", "feasibility", "non_negative_payments", "lowest_owner_ties", "presence"),
)
