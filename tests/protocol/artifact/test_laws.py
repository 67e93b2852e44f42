"""The laws of every class, on the exact artifact, by brute force over whole small grids (design section 4)."""

from __future__ import annotations

from itertools import product

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.artifact import RoundInput, build
from protocol.artifact.classes import REGISTRY
from protocol.artifact.classes.size_boost import size_vectors
from protocol.artifact.engine import Engine
from protocol.artifact.static import CheckedArtifact
from tests.strategies import (
    aggregated_artifacts,
    fee_artifacts,
    menu_artifacts,
    network_artifacts,
    reserve_artifacts,
    size_artifacts,
)

GRID = 3  # bids 0..GRID where everything is enumerated
truthful_artifacts = (
    menu_artifacts(bid_max=GRID, max_bidders=2, max_items=2)
    | size_artifacts(bid_max=GRID, max_bidders=2, max_items=3)
    | fee_artifacts(bid_max=GRID, max_bidders=2, max_items=2)
    | reserve_artifacts(bid_max=GRID)
    | aggregated_artifacts(bid_max=GRID, max_bidders=2, max_items=2)
)
every_artifact = (
    menu_artifacts()
    | size_artifacts()
    | fee_artifacts()
    | reserve_artifacts()
    | aggregated_artifacts()
    | network_artifacts()
)


def whole_grid(artifact: CheckedArtifact) -> npt.NDArray[np.int64]:
    """Every bid profile of the grid, shape (profiles, bidders, items)."""
    header = artifact.header
    cells = header.bidders * header.items
    top = GRID if cells <= 4 else 1
    return np.array(list(product(range(top + 1), repeat=cells))).reshape(-1, header.bidders, header.items)


@settings(max_examples=120)
@given(truthful_artifacts)
def test_no_misreport_on_the_whole_grid_beats_the_truth(artifact: CheckedArtifact) -> None:  # DSIC
    engine = Engine(artifact.data)
    profiles = whole_grid(artifact)
    arrays = engine.run_arrays(profiles)
    truthful = (arrays["allocation"] * profiles).sum(axis=2) - arrays["payment"]
    outcome = {profile.tobytes(): index for index, profile in enumerate(profiles)}
    for bidder in range(artifact.header.bidders):
        for report in {profile[bidder].tobytes() for profile in profiles}:
            lies = profiles.copy()
            lies[:, bidder] = np.frombuffer(report, dtype=np.int64)
            at = np.array([outcome[lie.tobytes()] for lie in lies])
            gain = (arrays["allocation"][at, bidder] * profiles[:, bidder]).sum(axis=1) - arrays["payment"][at, bidder]
            assert (gain <= truthful[:, bidder]).all()


@settings(max_examples=120)
@given(every_artifact, st.data())
def test_ir_feasibility_and_no_payment_below_zero(artifact: CheckedArtifact, data: st.DataObject) -> None:
    header = artifact.header
    shape = (8, header.bidders, header.items)
    bids = np.array(
        data.draw(st.lists(st.integers(0, header.bid_max), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    )
    bids = bids.reshape(shape)
    here = np.array(data.draw(st.lists(st.integers(0, 1), min_size=8 * header.bidders, max_size=8 * header.bidders)))
    arrays = Engine(artifact.data).run_arrays(bids, here.reshape(8, -1))
    allocation, payment = arrays["allocation"], arrays["payment"]
    assert (allocation >= 0).all()
    assert (allocation.sum(axis=1) <= header.unit_share).all()
    assert (payment >= 0).all()
    assert (payment <= (allocation * bids).sum(axis=2)).all()
    absent = here.reshape(8, -1) == 0
    assert (allocation[absent] == 0).all()
    assert (payment[absent] == 0).all()
    if "unit_demand" in REGISTRY[header.kind].laws:
        assert (allocation.sum(axis=2) <= header.unit_share).all()


@settings(max_examples=90)
@given(menu_artifacts() | size_artifacts() | fee_artifacts(), st.data())
def test_absence_equals_bidding_zero_for_everybody_else(artifact: CheckedArtifact, data: st.DataObject) -> None:
    header = artifact.header
    cells = header.bidders * header.items
    bids = np.array(data.draw(st.lists(st.integers(0, header.bid_max), min_size=cells, max_size=cells))).reshape(
        1, header.bidders, header.items
    )
    leaver = data.draw(st.integers(0, header.bidders - 1))
    zeroed = bids.copy()
    zeroed[0, leaver] = 0
    here = np.ones((1, header.bidders), dtype=np.int64)
    here[0, leaver] = 0
    engine = Engine(artifact.data)
    away, zero = engine.run_arrays(bids, here), engine.run_arrays(zeroed)
    others = [seat for seat in range(header.bidders) if seat != leaver]
    assert (away["payment"][0, others] == zero["payment"][0, others]).all()
    assert (away["allocation"][0, others] == zero["allocation"][0, others]).all()


@settings(max_examples=60)
@given(menu_artifacts(), st.data())
def test_menu_artifact_equals_the_definition_with_lowest_index_ties(
    artifact: CheckedArtifact, data: st.DataObject
) -> None:
    header = artifact.header
    menu, boosts, weights = (artifact.parameters[n].tolist() for n in ("menu", "boosts", "weights"))
    cells = header.bidders * header.items
    flat = data.draw(st.lists(st.integers(-2, header.bid_max + 2), min_size=cells, max_size=cells))
    bids = [flat[i * header.items : (i + 1) * header.items] for i in range(header.bidders)]
    x = [[min(max(v, 0), header.bid_max) for v in row] for row in bids]
    value = [
        [sum(a * v for a, v in zip(share, row, strict=True)) for share, row in zip(e, x, strict=True)] for e in menu
    ]
    own = [[w * v for w, v in zip(weights, row, strict=True)] for row in value]
    welfare = [boost + sum(row) for boost, row in zip(boosts, own, strict=True)]
    choice = welfare.index(max(welfare))  # the first of equals
    payment = [
        (max(w - row[i] for w, row in zip(welfare, own, strict=True)) - (welfare[choice] - own[choice][i]))
        // weights[i]
        for i in range(header.bidders)
    ]
    arrays = Engine(artifact.data).run_arrays(np.array([bids]))
    assert int(arrays["choice"][0]) == choice
    assert arrays["allocation"][0].tolist() == menu[choice]
    assert arrays["payment"][0].tolist() == payment


@settings(max_examples=60)
@given(fee_artifacts(), st.integers(0, 2**32 - 1))
def test_fees_equal_the_definition_and_nobody_moves_its_own(artifact: CheckedArtifact, seed: int) -> None:
    header = artifact.header
    if not header.kind.endswith("-fee"):
        return
    p = artifact.parameters
    plain = {name: value for name, value in p.items() if not name.startswith("fee_")}
    base = build.build(msgspec.structs.replace(header, kind=header.kind.removesuffix("-fee")), **plain)
    source = np.random.default_rng(seed)
    bids = source.integers(-1, header.bid_max + 2, (20, header.bidders, header.items))
    here = source.integers(0, 2, (20, header.bidders))
    below, above = Engine(base.data).run_arrays(bids, here), Engine(artifact.data).run_arrays(bids, here)
    x = np.clip(bids, 0, header.bid_max) * here[:, :, None]
    for i in range(header.bidders):
        others = np.delete(x, i, axis=1).reshape(20, -1)  # seat order
        z = others @ p["fee_first"][i].reshape(-1, p["fee_first"].shape[3]) + p["fee_first_bias"][i]
        h = np.maximum(z, 0) >> p["fee_shifts"][0]
        h = np.maximum(h @ p["fee_second"][i] + p["fee_second_bias"][i], 0) >> p["fee_shifts"][1]
        fee = np.maximum(h @ p["fee_third"][i] + p["fee_third_bias"][i], 0) >> p["fee_shifts"][2]
        utility = (below["allocation"][:, i] * x[:, i]).sum(axis=1) - below["payment"][:, i]
        stays = utility >= fee
        assert (above["payment"][:, i] == np.where(stays, below["payment"][:, i] + fee, 0)).all()
        assert (above["allocation"][:, i] == np.where(stays[:, None], below["allocation"][:, i], 0)).all()


def enumerate_words(
    artifact: CheckedArtifact, bids: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Allocation and payment of a size-boosted auction by trying every assignment of items to owners, in order."""
    header = artifact.header
    n, m = header.bidders, header.items
    boosts, weights = artifact.parameters["boosts"], artifact.parameters["weights"]
    words = np.array(list(product(range(n + 1), repeat=m)))  # ascending: nobody first, item 0 first
    held = np.stack([words == i + 1 for i in range(n)], axis=1).astype(np.int64)  # (words, bidders, items)
    number = {tuple(sizes): index for index, sizes in enumerate(ascending_by_sum(n, m))}
    boost = boosts[[number[tuple(sizes)] for sizes in held.sum(axis=2).tolist()]]
    x = np.clip(bids, 0, header.bid_max)
    own = np.einsum("kim,bim->bki", held, x) * weights * header.unit_share
    welfare = boost + own.sum(axis=2)
    chosen = welfare.argmax(axis=1)  # the first of equals
    best, each = welfare.max(axis=1), np.arange(len(bids))
    without = (welfare[:, :, None] - own).max(axis=1)
    payment = (without - (best[:, None] - own[each, chosen])) // weights
    return held[chosen] * header.unit_share, payment


def ascending_by_sum(bidders: int, items: int) -> list[tuple[int, ...]]:
    """Every vector of bundle sizes of sum at most `items`, by sum, then ascending."""
    vectors = [v for v in product(range(items + 1), repeat=bidders) if sum(v) <= items]
    return sorted(vectors, key=lambda v: (sum(v), v))


@settings(max_examples=60)
@given(size_artifacts(), st.integers(0, 2**32 - 1))
def test_the_dynamic_programme_equals_enumeration_with_lowest_owner_ties(artifact: CheckedArtifact, seed: int) -> None:
    header = artifact.header
    source = np.random.default_rng(seed)
    bids = source.integers(-1, header.bid_max + 2, (40, header.bidders, header.items))
    arrays = Engine(artifact.data).run_arrays(bids)
    allocation, payment = enumerate_words(artifact, bids)
    assert (arrays["allocation"] == allocation).all()
    assert (arrays["payment"] == payment).all()


@pytest.mark.parametrize(("bidders", "items"), [(2, 3), (3, 3), (2, 5)])
@pytest.mark.parametrize("bid_max", [2, 10**6])  # ties everywhere, and hardly any
def test_the_dynamic_programme_equals_enumeration_at_size(bidders: int, items: int, bid_max: int) -> None:
    source = np.random.default_rng(bidders * items)
    vectors = ascending_by_sum(bidders, items)
    assert size_vectors(bidders, items).tolist() == [list(vector) for vector in vectors]
    boosts = source.integers(-bid_max, 2 * bid_max, len(vectors))
    weights = source.integers(1, 4, bidders)
    artifact = build.size_boost(boosts, weights, items=items, bid_max=bid_max, share_bits=0, unit="1")
    bids = source.integers(0, bid_max + 1, (1500, bidders, items))
    arrays = Engine(artifact.data).run_arrays(bids)
    allocation, payment = enumerate_words(artifact, bids)
    assert (arrays["allocation"] == allocation).all()
    assert (arrays["payment"] == payment).all()


def by_profile(
    artifact: CheckedArtifact, bids: npt.NDArray[np.int64], here: tuple[int, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Allocation and payment of an aggregated auction: the present alone in their profile's own stage auction."""
    header = artifact.header
    n, m = header.bidders, header.items
    seats = [seat for seat in range(n) if here[seat]]
    allocation = np.zeros((len(bids), n, m), dtype=np.int64)
    payment = np.zeros((len(bids), n), dtype=np.int64)
    if not seats:
        return allocation, payment
    row = int(artifact.parameters["stage_of"][int("".join(map(str, here)), 2)])
    boosts, weights = artifact.parameters["boosts"][row], artifact.parameters["weights"][row]
    number = {sizes: index for index, sizes in enumerate(ascending_by_sum(n, m))}
    own_boosts = []
    for sizes in ascending_by_sum(len(seats), m):
        everyone = [0] * n
        for seat, size in zip(seats, sizes, strict=True):
            everyone[seat] = size
        own_boosts.append(boosts[number[tuple(everyone)]])
    alone = build.size_boost(
        own_boosts, weights[seats], items=m, bid_max=header.bid_max, share_bits=header.share_bits, unit="1"
    )
    allocation[:, seats], payment[:, seats] = enumerate_words(alone, bids[:, seats])
    return allocation, payment


@settings(max_examples=60)
@given(aggregated_artifacts(), st.integers(0, 2**32 - 1))
def test_an_aggregated_auction_runs_the_stage_auction_of_who_is_present(artifact: CheckedArtifact, seed: int) -> None:
    header = artifact.header
    source = np.random.default_rng(seed)
    engine = Engine(artifact.data)
    for here in product((0, 1), repeat=header.bidders):  # AGG-1, AGG-2
        bids = source.integers(-1, header.bid_max + 2, (20, header.bidders, header.items))
        arrays = engine.run_arrays(bids, np.tile(here, (len(bids), 1)))
        allocation, payment = by_profile(artifact, bids, here)
        assert (arrays["allocation"] == allocation).all()
        assert (arrays["payment"] == payment).all()


@settings(max_examples=60)
@given(
    aggregated_artifacts(bid_max=2, max_bidders=2, max_items=2)
    | aggregated_artifacts(bid_max=1, min_bidders=3, max_bidders=3, max_items=1)
)
def test_no_lie_about_bids_or_presence_pays_in_any_profile(artifact: CheckedArtifact) -> None:  # AGG-3
    header = artifact.header
    n, m = header.bidders, header.items
    rows = list(product(range(header.bid_max + 1), repeat=m))
    reports = [(1, row) for row in rows] + [(0, (0,) * m)]  # present with a bid, or absent
    profiles = list(product(range(len(reports)), repeat=n))
    bids = np.array([[reports[r][1] for r in profile] for profile in profiles])
    here = np.array([[reports[r][0] for r in profile] for profile in profiles])
    arrays = Engine(artifact.data).run_arrays(bids, here)
    at = {profile: index for index, profile in enumerate(profiles)}
    for profile, index in at.items():
        for bidder in range(n):
            # who is absent values nothing: coming all the same must not pay either
            value = np.array(reports[profile[bidder]][1])
            truthful = arrays["allocation"][index, bidder] @ value - arrays["payment"][index, bidder]
            assert truthful >= 0
            for lie in range(len(reports)):
                other = at[(*profile[:bidder], lie, *profile[bidder + 1 :])]
                gain = arrays["allocation"][other, bidder] @ value - arrays["payment"][other, bidder]
                assert gain <= truthful


@settings(max_examples=80)
@given(
    st.booleans(),
    st.lists(st.integers(-2, 8), min_size=4, max_size=4),
    st.lists(st.integers(0, 1), min_size=4, max_size=4),
    st.integers(0, 6),
    st.integers(0, 6),
)
def test_first_price_equals_the_definition_with_even_ties(
    procurement: bool, bids: list[int], here: list[int], reserve: int, minimum: int
) -> None:  # spec 2.13
    artifact = build.first_price(bidders=4, bid_max=6, share_bits=3, unit="1", procurement=procurement)
    x = [min(max(bid, 0), 6) for bid in bids]
    admissible = [
        bool(h) and (b <= reserve - minimum if procurement else b >= reserve) for b, h in zip(x, here, strict=True)
    ]
    best = max((b for b, ok in zip(x, admissible, strict=True) if ok), default=-1)
    winners = [seat for seat in range(4) if admissible[seat] and x[seat] == best]
    share = [0] * 4
    for seat in winners:
        share[seat] = 8 // len(winners)
    if winners:
        share[winners[0]] += 8 - sum(share)  # the remainder goes to the lowest index
    context = np.array([[reserve, minimum][: 1 + procurement]])
    arrays = Engine(artifact.data).run_arrays(np.array(bids).reshape(1, 4, 1), np.array([here]), context)
    assert arrays["allocation"][0, :, 0].tolist() == share
    assert arrays["payment"][0].tolist() == [s * b for s, b in zip(share, x, strict=True)]


@settings(max_examples=80)
@given(reserve_artifacts(), st.data())
def test_second_price_equals_the_definition(artifact: CheckedArtifact, data: st.DataObject) -> None:
    header = artifact.header
    reserves = artifact.parameters["reserves"].tolist()
    rows = st.lists(st.integers(0, header.bid_max), min_size=header.items, max_size=header.items)
    bids = data.draw(st.lists(rows, min_size=header.bidders, max_size=header.bidders))
    here = data.draw(st.lists(st.integers(0, 1), min_size=header.bidders, max_size=header.bidders))
    allocation = [[0] * header.items for _ in range(header.bidders)]
    payment = [0] * header.bidders
    for item, reserve in enumerate(reserves):
        offers = sorted(((bids[s][item], -s) for s in range(header.bidders) if here[s]), reverse=True)
        if offers and offers[0][0] >= reserve:
            winner = -offers[0][1]
            price = max(reserve, offers[1][0] if len(offers) > 1 else 0)
            allocation[winner][item] = header.unit_share
            payment[winner] += price * header.unit_share
    output = Engine(artifact.data).run([RoundInput(bids=bids, participation=here, context=[])])[0]
    assert output.allocation == allocation
    assert output.payment == payment


@settings(max_examples=60)
@given(every_artifact, st.data())
def test_the_judge_and_the_runtime_agree(artifact: CheckedArtifact, data: st.DataObject) -> None:  # spec 7.6
    header = artifact.header
    edge = st.sampled_from([0, 1, header.bid_max, header.bid_max + 1, -1, 2**53 - 1, -(2**53) + 1])
    rows = st.lists(edge, min_size=header.items, max_size=header.items)
    item = RoundInput(
        bids=data.draw(st.lists(rows, min_size=header.bidders, max_size=header.bidders)),
        participation=data.draw(st.lists(st.integers(0, 1), min_size=header.bidders, max_size=header.bidders)),
        context=[],
    )
    engine = Engine(artifact.data)
    assert engine.run([item]) == engine.judge([item])


def test_the_answer_does_not_depend_on_the_batch() -> None:
    artifact = build.menu_affine(
        np.arange(24).reshape(4, 3, 2) % 3, [5, -7, 0, 3], [1, 2, 3], bid_max=9, share_bits=3, unit="1"
    )
    engine = Engine(artifact.data)
    bids = np.random.default_rng(0).integers(0, 10, (150, 3, 2))
    together = engine.run_arrays(bids)
    for index in (0, 63, 64, 149):
        alone = engine.run_arrays(bids[index : index + 1])
        assert all((alone[name][0] == together[name][index]).all() for name in together)


LAWS = {  # by name, where each is tested above
    "dsic": test_no_misreport_on_the_whole_grid_beats_the_truth,
    "ir": test_ir_feasibility_and_no_payment_below_zero,
    "feasibility": test_ir_feasibility_and_no_payment_below_zero,
    "non_negative_payments": test_ir_feasibility_and_no_payment_below_zero,
    "lowest_index_ties": test_menu_artifact_equals_the_definition_with_lowest_index_ties,
    "lowest_owner_ties": test_the_dynamic_programme_equals_enumeration_with_lowest_owner_ties,
    "even_ties": test_first_price_equals_the_definition_with_even_ties,
    "unit_demand": test_ir_feasibility_and_no_payment_below_zero,
    "presence": test_no_lie_about_bids_or_presence_pays_in_any_profile,
}


def test_every_class_of_the_registry_names_laws_and_is_tested_here() -> None:
    assert set(REGISTRY) == {
        "menu-affine", "menu-affine-fee", "size-boost", "size-boost-fee", "single-item-reserve", "first-price",
        "aggregated", "network", "network-unit-demand",
    }  # fmt: skip
    for entry in REGISTRY.values():
        assert {"ir", "feasibility", "non_negative_payments"} <= set(entry.laws)
        assert ("dsic" in entry.laws) == (entry.theorem is not None)
        assert set(entry.laws) <= set(LAWS)
    assert {law for entry in REGISTRY.values() for law in entry.laws} == set(LAWS)


def test_known_answer_second_price() -> None:
    artifact = build.single_item_reserve([50], bidders=3, bid_max=100, share_bits=2, unit="1")
    engine = Engine(artifact.data)
    for bids, winner, price in (
        ([80, 60, 10], 0, 60),
        ([20, 70, 10], 1, 50),
        ([60, 60, 60], 0, 60),
        ([40, 49, 0], None, 0),
    ):
        arrays = engine.run_arrays(np.array(bids).reshape(1, 3, 1))
        assert arrays["payment"][0].sum() == price * 4
        assert arrays["allocation"][0, :, 0].tolist() == [4 * (seat == winner) for seat in range(3)]
