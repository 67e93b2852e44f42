"""Spec 9: bounds against exhaustive search over what a cheating auctioneer may do, detection, the account book."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import combinations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.artifact.static import CheckedArtifact
from protocol.errors import VerificationError
from protocol.escrow import ESCROW, POOL, AccountBook, check_manifest_stakes, epoch_amounts
from protocol.penalties import (
    audit_chance,
    audits_needed,
    best_revenue,
    clean_audits,
    detection_fixed,
    detection_independent,
    gain_bound,
    least_independent,
    penalty_epochs,
    penalty_fine_fixed,
    penalty_fixed,
    penalty_independent,
    penalty_stream,
    requirement,
)
from tests.harness import Table

G = 10


def test_the_published_example() -> None:  # spec 9.7: q = 0.1, L = 5 needs 15 g
    assert penalty_stream(Fraction(1, 10), 5, 10**6) == 15 * 10**6 + 1
    assert penalty_fixed(300, 1, G) == 300 * G + 1
    assert gain_bound(10, 10**6, 16) == 10 * 10**6 * 65536


@pytest.mark.parametrize(("rounds", "k"), [(5, 1), (6, 2), (7, 7), (9, 4)])
def test_detection_equals_counting(rounds: int, k: int) -> None:
    for w in range(rounds + 1):
        hits = sum(any(index < w for index in drawn) for drawn in combinations(range(rounds), k))
        assert detection_fixed(rounds, k, w) == Fraction(hits, len(list(combinations(range(rounds), k))))


@given(st.integers(1, 9), st.data())
def test_fixed_bound_is_exactly_where_no_number_of_deviations_pays(rounds: int, data: st.DataObject) -> None:  # 9.3
    k = data.draw(st.integers(1, rounds))
    need = penalty_fixed(rounds, k, G)

    def best(penalty: int) -> Fraction:
        return max(w * G - detection_fixed(rounds, k, w) * penalty for w in range(1, rounds + 1))

    assert best(need) < 0
    assert best(need - 1) >= 0  # the bound is strict and tight
    returned = penalty_fixed(rounds, k, G, gains="returned")
    value = max(w * G * (1 - detection_fixed(rounds, k, w)) - detection_fixed(rounds, k, w) * returned
                for w in range(1, rounds + 1))  # fmt: skip
    assert value < 0


@given(st.integers(1, 8), st.sampled_from([Fraction(1, 10), Fraction(1, 3), Fraction(9, 10)]))
def test_independent_bound(rounds: int, q: Fraction) -> None:  # 9.5
    need = penalty_independent(rounds, q, G)
    assert all(w * G < detection_independent(q, w) * need for w in range(1, rounds + 1))
    assert rounds * G >= detection_independent(q, rounds) * (need - 1)
    assert penalty_independent(rounds, q, G, gains="returned") > G * (1 - q) / q


@pytest.mark.parametrize("lag", [0, 1, 3])
@pytest.mark.parametrize("q", [Fraction(1, 4), Fraction(1, 2)])
def test_stream_bound_against_dynamic_programming(q: Fraction, lag: int) -> None:  # 9.6
    """The best plan of a cheater who sees no verdict for `lag` rounds and is halted at the first detection."""
    horizon = 12
    need = penalty_stream(q, lag, G)

    @cache
    def value(left: int, fuse: int, penalty: int) -> Fraction:
        """Best expected gain; `fuse` rounds until the halt once detected, -1 before."""
        if left == 0 or fuse == 0:
            return Fraction(0)
        if fuse > 0:  # detected already: cheat in every round that is left, for free
            return G + value(left - 1, fuse - 1, penalty)
        cheat = G + q * (value(left - 1, lag, penalty) - penalty) + (1 - q) * value(left - 1, -1, penalty)
        return max(value(left - 1, -1, penalty), cheat)

    assert value(horizon, -1, need) == 0
    assert value(horizon, -1, need // 2) > 0


def test_other_rules() -> None:
    assert penalty_fine_fixed(10, 2, G) == 5 * G + 1  # 9.4
    assert penalty_epochs(5, 1, 2, G) == 7 * G + 1  # 9.7
    assert penalty_fixed(10, 1, G, coins=2) == 10 * 10 * G + 1  # 9.12: times T/k
    assert penalty_stream(Fraction(1, 10), 0, G, coins=2) == 100 * G + 1
    assert requirement("prompt", g=G, rounds=9, k=1, q=Fraction(1, 2), lag=1).penalty == 3 * G + 1
    with pytest.raises(ValueError, match="wanted published or prompt"):
        requirement("none", g=G, rounds=9, k=1, q=Fraction(1, 2), lag=1)


def test_detection_power_of_the_table() -> None:  # spec 9.8
    assert [audits_needed(10_000, w, Fraction(1, 20)) for w in (1, 10, 100, 1000)] == [9500, 2588, 294, 29]
    assert audits_needed(10**6, 1000, Fraction(1, 20)) == 2990


def test_setup_refuses_stakes_that_do_not_deter(second_price: CheckedArtifact) -> None:  # A38, spec 6.2
    manifest = Table(second_price, rounds=3).manifest
    check_manifest_stakes(manifest)
    money = manifest.money
    poor = msgspec.structs.replace(manifest, money=msgspec.structs.replace(money, penalty=money.penalty - 1))
    with pytest.raises(VerificationError, match=r"at least \d+ is needed \(spec 9.3\)"):
        check_manifest_stakes(poor)
    free = msgspec.structs.replace(manifest, money=msgspec.structs.replace(money, opening_forfeit=0))
    with pytest.raises(VerificationError, match="a bidder forfeits 0"):
        check_manifest_stakes(free)
    small = msgspec.structs.replace(manifest, money=msgspec.structs.replace(money, gain_bound=money.gain_bound - 1))
    with pytest.raises(VerificationError, match="the support allows"):
        check_manifest_stakes(small)


movements = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.dictionaries(st.sampled_from(["a", "b", POOL, "outside"]), st.integers(-20, 20), max_size=4),
    ),
    max_size=30,
)


@given(movements)
def test_money_is_conserved_and_every_movement_happens_once(moves: list[tuple[int, dict[str, int]]]) -> None:  # L1
    book = AccountBook()
    book.move("start", {"a": 30, "b": 30, AccountBook.OUTSIDE: -60})
    for key, amounts in moves:
        before = dict(book.balances)
        balanced = {**amounts, "outside": amounts.get("outside", 0) - sum(amounts.values())}
        try:
            changed = book.move(f"m{key}", balanced)
        except ValueError:
            assert book.balances == before
            continue
        assert changed or book.balances == before
        assert book.total() == 0
        assert all(balance >= 0 for account, balance in book.balances.items() if account != AccountBook.OUTSIDE)
        assert not book.move(f"m{key}", balanced)  # evidence that arrives again pays nothing again


def test_unbalanced_movements_are_refused() -> None:
    book = AccountBook()
    for amounts in ({"a": 1}, {"a": 1, "b": -2}, {"a": True, "b": -1}, {"a": 2**60, "b": -(2**60)}):
        with pytest.raises(ValueError, match="conserve|integer"):
            book.move("x", amounts)
    assert epoch_amounts("x", 5, {"y": 2}, {}) == {POOL: 7, "x": -5, "y": -2}
    assert epoch_amounts("x", 5, {"y": 2}, {"y": 3}) == {POOL: 7, ESCROW: -3, "x": -5, "y": 1}
    assert epoch_amounts("x", 0, {}, {}) == {}


def test_a_movement_is_made_once_and_the_same() -> None:  # spec 9.14
    book = AccountBook()
    assert book.move("x", {AccountBook.OUTSIDE: -5, "a": 5})
    assert not book.move("x", {AccountBook.OUTSIDE: -5, "a": 5, "b": 0})
    with pytest.raises(ValueError, match="made with other amounts"):
        book.move("x", {AccountBook.OUTSIDE: -6, "a": 6})
    with pytest.raises(ValueError, match="would leave a with -1"):
        book.move("y", {"a": -6, AccountBook.OUTSIDE: 6})
    assert book.balances == {AccountBook.OUTSIDE: -5, "a": 5}


def test_what_no_chance_of_audit_deters_is_refused() -> None:  # spec 9.10
    lag, largest = 2, 10
    assert audit_chance(10, 31, lag, largest) == Fraction((10 << 20) // 11 + 1, 1 << 20)
    assert audit_chance(0, 31, lag, largest) == Fraction(1, 1 << 20)
    for exposure, penalty in ((10, 30), (5, 30), (-1, 31), (11, 31), (-1, 30)):
        with pytest.raises(ValueError, match=r"\(L \+ 1\) g_max"):
            audit_chance(exposure, penalty, lag, largest)


def test_clean_audits_and_their_confidence() -> None:  # spec 9.8
    assert clean_audits(1, Fraction(1, 2)) == 0.5
    assert clean_audits(300) == pytest.approx(0.00993, abs=1e-5)
    for k, confidence in ((0, Fraction(1, 2)), (1, Fraction(0)), (1, Fraction(1)), (0, Fraction(1)), (-1, Fraction(2))):
        with pytest.raises(ValueError, match="wanted at least 1, and above 0 and below 1"):
            clean_audits(k, confidence)


def test_the_penalty_at_which_w_rounds_gain_nothing() -> None:  # spec 9.5
    for deviating in (1, 2, 5):
        need = least_independent(5, Fraction(1, 3), G, deviating)
        assert deviating * G == detection_independent(Fraction(1, 3), deviating) * need


def test_the_least_number_of_audits_by_search() -> None:  # spec 9.8
    for rounds in (1, 4, 7):
        for deviating in range(1, rounds + 1):
            for miss in (Fraction(0), Fraction(1, 10), Fraction(1, 2), Fraction(99, 100)):
                least = next(k for k in range(1, rounds + 1) if 1 - detection_fixed(rounds, k, deviating) <= miss)
                assert audits_needed(rounds, deviating, miss) == least


@given(st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=2), min_size=1, max_size=4))
def test_best_revenue_by_trying_every_outcome(bids: list[list[int]]) -> None:  # spec 9.11
    seats = range(len(bids))
    whole = max(bids[i][0] + bids[j][1] for i in seats for j in seats)
    single = max([bids[i][0] + bids[j][1] for i in seats for j in seats if i != j]
                 + [bids[i][item] for i in seats for item in range(2)])  # fmt: skip
    assert best_revenue(bids, 3) == whole << 3
    assert best_revenue(bids, 3, "unit_demand") == single << 3
    wide = [list(column) for column in zip(*bids, strict=True)]  # two bidders, several items
    items = range(len(bids))
    pairs = [wide[0][i] + wide[1][j] for i in items for j in items if i != j]
    assert best_revenue(wide, 0, "unit_demand") == max(pairs + [value for row in wide for value in row])
    assert best_revenue([], 3) == best_revenue([[]], 3) == best_revenue([[], []], 3) == 0
    with pytest.raises(ValueError, match="wanted additive or unit_demand"):
        best_revenue(bids, 3, "other")
