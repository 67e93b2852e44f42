"""Hypothesis strategies shared by the tests."""

from __future__ import annotations

from math import comb

import msgspec
import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from protocol.artifact import build
from protocol.artifact.static import CheckedArtifact


@st.composite
def menu_artifacts(draw: st.DrawFn, bid_max: int = 4, max_bidders: int = 3, max_items: int = 2) -> CheckedArtifact:
    """Small affine maximizers with lotteries, negative boosts and weights that do not divide."""
    bidders, items = draw(st.integers(1, max_bidders)), draw(st.integers(1, max_items))
    share_bits = draw(st.sampled_from([0, 1, 3]))
    whole = 1 << share_bits
    entries = draw(st.integers(1, 6))
    menu = []
    for _ in range(entries):
        entry = [[0] * items for _ in range(bidders)]
        for item in range(items):
            left = whole
            for bidder in draw(st.permutations(range(bidders))):
                share = draw(st.integers(0, left))
                entry[bidder][item] = share
                left -= share
        menu.append(entry)
    boosts = draw(st.lists(st.integers(-40, 40), min_size=entries, max_size=entries))
    weights = draw(st.lists(st.integers(1, 7), min_size=bidders, max_size=bidders))
    return build.menu_affine(menu, boosts, weights, bid_max=bid_max, share_bits=share_bits, unit="1")


@st.composite
def size_artifacts(draw: st.DrawFn, bid_max: int = 4, max_bidders: int = 3, max_items: int = 3) -> CheckedArtifact:
    """Small size-boosted affine maximizers: boosts of any sign for every size vector, weights that do not divide."""
    bidders, items = draw(st.integers(1, max_bidders)), draw(st.integers(1, max_items))
    states = comb(items + bidders, bidders)
    boosts = draw(st.lists(st.integers(-40, 40), min_size=states, max_size=states))
    weights = draw(st.lists(st.integers(1, 7), min_size=bidders, max_size=bidders))
    share_bits = draw(st.sampled_from([0, 1, 3]))
    return build.size_boost(boosts, weights, items=items, bid_max=bid_max, share_bits=share_bits, unit="1")


@st.composite
def aggregated_artifacts(
    draw: st.DrawFn, bid_max: int = 4, min_bidders: int = 1, max_bidders: int = 3, max_items: int = 2
) -> CheckedArtifact:
    """Small aggregated auctions: profiles share rows of boosts and weights as drawn."""
    bidders, items = draw(st.integers(min_bidders, max_bidders)), draw(st.integers(1, max_items))
    rows, states = draw(st.integers(1, 4)), comb(items + bidders, bidders)

    def numbers(low: int, high: int, *shape: int) -> npt.NDArray[np.int64]:
        count = int(np.prod(shape))
        return np.array(draw(st.lists(st.integers(low, high), min_size=count, max_size=count))).reshape(shape)

    return build.aggregated(
        numbers(0, rows - 1, 1 << bidders), numbers(-40, 40, rows, states), numbers(1, 7, rows, bidders), items=items,
        bid_max=bid_max, share_bits=draw(st.sampled_from([0, 1, 3])), unit="1",
    )  # fmt: skip


@st.composite
def fee_artifacts(draw: st.DrawFn, bid_max: int = 4, max_bidders: int = 3, max_items: int = 2) -> CheckedArtifact:
    """Small affine maximizers of both kinds with rival-only fees: weights of either sign, fees around the utilities."""
    base = draw(menu_artifacts(bid_max, max_bidders, max_items) | size_artifacts(bid_max, max_bidders, max_items))
    header = base.header
    if header.bidders == 1:
        return base
    n, m, hidden = header.bidders, header.items, draw(st.integers(1, 3))

    def numbers(low: int, high: int, *shape: int) -> npt.NDArray[np.int64]:
        count = int(np.prod(shape))
        return np.array(draw(st.lists(st.integers(low, high), min_size=count, max_size=count))).reshape(shape)

    fee = {
        "fee_first": numbers(-9, 9, n, n - 1, m, hidden),
        "fee_first_bias": numbers(-9, 9, n, hidden),
        "fee_second": numbers(-5, 9, n, hidden, hidden),
        "fee_second_bias": numbers(-9, 9, n, hidden),
        "fee_third": numbers(-5, 9, n, hidden),
        "fee_third_bias": numbers(-20, 60, n),
        "fee_shifts": numbers(0, 4, 3),
    }
    return build.build(msgspec.structs.replace(header, kind=f"{header.kind}-fee"), **base.parameters, **fee)


@st.composite
def reserve_artifacts(draw: st.DrawFn, bid_max: int = 4) -> CheckedArtifact:
    """Small separate second-price auctions; a reserve may lie above every bid."""
    items = draw(st.integers(1, 2))
    reserves = draw(st.lists(st.integers(0, bid_max + 1), min_size=items, max_size=items))
    bidders = draw(st.integers(1, 3))
    return build.single_item_reserve(reserves, bidders=bidders, bid_max=bid_max, share_bits=3, unit="1")


@st.composite
def network_artifacts(draw: st.DrawFn, bid_max: int = 4) -> CheckedArtifact:
    """Small networks of any weights, with coarse tables: what is exact does not depend on what they mean."""
    bidders, items, width = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    share_bits, layers = draw(st.sampled_from([0, 3, 16])), draw(st.integers(1, 2))
    source = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.sampled_from([2, 64, 4096]))
    activation = np.sort(source.integers(-(1 << 14), (1 << 14) + 1, size))
    exp = np.sort(source.integers(1, (1 << 24) + 1, size))[::-1]
    logistic = np.sort(source.integers(0, (1 << share_bits) + 1, size))
    parameters: dict[str, npt.NDArray[np.int64]] = {
        "shift": np.array([draw(st.integers(1, 30))]), "activation": activation, "exp": exp.copy(),
        "logistic": logistic,
    }  # fmt: skip
    towers = {"allot": (bidders + 1) * items, "pay": bidders}
    if draw(st.booleans()):  # for unit demand
        towers["want"] = bidders * (items + 1)
    for tower, outputs in towers.items():
        shapes = {
            "first": (bidders * items, width), "first_bias": (width,), "hidden": (layers, width, width),
            "hidden_bias": (layers, width), "last": (width, outputs), "last_bias": (outputs,),
        }  # fmt: skip
        for name, shape in shapes.items():
            reach = 1 << draw(st.sampled_from([0, 14, 30])) if name.endswith("bias") else 1 << 20
            parameters[f"{tower}_{name}"] = source.integers(-reach, reach + 1, shape)
    return build.network(bidders=bidders, items=items, bid_max=bid_max, share_bits=share_bits, unit="1", **parameters)
