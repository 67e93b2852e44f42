"""Spec 3.15, 3.16, 5, 7.1, 7.2: worked values, chains, draws, charges."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.commitment import (
    BidBody,
    Opening,
    bid_nonce,
    commit,
    seal_info,
    seal_opening,
    unseal_opening,
    verify_opening,
)
from protocol.encoding import hash_of
from protocol.errors import BindingError, MalformedError, SignatureError, VerificationError
from protocol.keys import derive_seal_key
from protocol.randomness.chains import Chain, ChainVerifier, link_hash
from protocol.randomness.lottery import charge_of, draw_number, draw_winners, lottery_seed
from protocol.randomness.tickets import audit_seed, by_ticket, draw_fixed, draw_independent, ticket

PARTY, ITEMS, MECH, SESSION, ROOT = ((bytes([b]) * 32).hex() for b in (0x11, 0x22, 0x33, 0x44, 0x66))
CHAIN = Chain(PARTY, b"\x55" * 32, 3)
NONCE = bytes(range(32))
BODY = BidBody(
    bidder=PARTY, bids=[3, 5], epoch=0, items=ITEMS, mech=MECH, participation=True, round=7, seq=1, session=SESSION
)


def test_worked_values_of_the_specification() -> None:  # spec 11
    assert commit(BODY, NONCE).hex() == "5ddd1cc5e60902d16d893de02b03e2b592302469012fd3da993a44682b615b6f"
    assert bid_nonce(NONCE, SESSION, 7, 1).hex() == "d0eb1012b76a3fea5d7229eceb80e7ea9ad3ca7cda4546523e9b87a65931b9d5"
    assert CHAIN.head == "643be3f7b011254d2a7a2a3958b162d1a2e67d8babcbf90721fcca5f3a6963e6"
    seed = audit_seed(SESSION, 0, ROOT, {PARTY: CHAIN.link(0)})
    assert seed.hex() == "023936934fac143551e5394993798383e89ad3f980f2eeb6c63e744a5427b537"
    assert by_ticket(seed, range(10)) == [9, 6, 2, 3, 1, 7, 4, 5, 8, 0]
    assert sorted(draw_independent(seed, range(10), lambda _: (1, 4))) == [2, 6, 9]
    draw = lottery_seed(SESSION, 0, ROOT, {PARTY: CHAIN.link(0)})
    assert (draw_number(draw, 0, 16), draw_number(draw, 1, 16)) == (2900, 59306)


def test_link_text_is_the_canonical_one() -> None:  # spec 5.1
    assert link_hash(12, PARTY, NONCE) == hash_of("link", {"index": 12, "party": PARTY, "value": NONCE.hex()})


def test_links_lead_to_the_head_in_rising_order_only() -> None:
    chain = Chain(PARTY, NONCE, 9)
    verifier = ChainVerifier(PARTY, bytes.fromhex(chain.head))
    for index in (0, 3, 4, 8):
        verifier.verify(index, bytes.fromhex(chain.link(index)))
    with pytest.raises(VerificationError, match="after index"):
        verifier.verify(4, bytes.fromhex(chain.link(4)))
    for party, index, link in ((ITEMS, 2, chain.link(2)), (PARTY, 1, chain.link(2)), (PARTY, 2, ITEMS)):
        with pytest.raises(VerificationError, match="does not lead"):
            ChainVerifier(party, bytes.fromhex(chain.head)).verify(index, bytes.fromhex(link))


bodies = st.builds(
    BidBody,
    bidder=st.just(PARTY),
    bids=st.lists(st.integers(-9, 9), min_size=2, max_size=2),
    epoch=st.integers(0, 3),
    items=st.just(ITEMS),
    mech=st.just(MECH),
    participation=st.booleans(),
    round=st.integers(0, 9),
    seq=st.integers(0, 9),
    session=st.just(SESSION),
)


@given(bodies, bodies, st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_commitments_bind(one: BidBody, two: BidBody, first: bytes, second: bytes) -> None:  # spec 3.1, A22
    assert (commit(one, first) == commit(two, second)) == (one == two and first == second)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_nonces_of_other_lengths_do_not_bind_and_are_refused(size: int) -> None:  # spec 3.2
    with pytest.raises(MalformedError, match="wanted 32"):
        commit(BODY, b"\1" * size)
    with pytest.raises(MalformedError, match="wanted 32"):
        Opening(BODY, b"\1" * size)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("session", ITEMS), ("epoch", 1), ("round", 8), ("bidder", ITEMS), ("seq", 2), ("mech", ITEMS), ("items", MECH),
        ("participation", False), ("bids", [3, 5, 0]),
    ],
)  # fmt: skip
def test_an_opening_of_another_place_is_refused(field: str, value: object) -> None:  # spec 3.2, 8.5
    import msgspec

    other = msgspec.structs.replace(BODY, **{field: value})
    verify_opening(Opening(BODY, NONCE), commit(BODY, NONCE), BODY)
    with pytest.raises(BindingError):
        verify_opening(Opening(other, NONCE), commit(other, NONCE), BODY)
    with pytest.raises(BindingError, match="does not match"):
        verify_opening(Opening(BODY, NONCE[::-1]), commit(BODY, NONCE), BODY)


def test_sealed_openings_are_reproducible_and_bound() -> None:  # spec 3.11
    recipient = derive_seal_key(b"\1" * 32)
    opening = Opening(BODY, NONCE)
    info = seal_info(SESSION, 7, PARTY, ITEMS, opening.commitment.hex())
    sealed = seal_opening(opening, recipient.public_key().public_bytes_raw(), info)
    assert sealed == seal_opening(opening, recipient.public_key().public_bytes_raw(), info)
    assert unseal_opening(sealed, recipient, info) == opening
    with pytest.raises(SignatureError):
        unseal_opening(sealed, recipient, seal_info(SESSION, 8, PARTY, ITEMS, opening.commitment.hex()))
    assert NONCE.hex() not in repr(opening)


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_a_larger_fixed_sample_contains_the_smaller(seed: int, count: int) -> None:
    material = seed.to_bytes(32, "big")
    assert draw_fixed(material, range(12), count)[:-1] == draw_fixed(material, range(12), count - 1)
    assert set(draw_independent(material, range(12), lambda _: (1, 1))) == set(range(12))


def test_drawn_rounds_are_uniform() -> None:  # A11, hardening A5: chi-square with 9 degrees, 99.9 % at 27.9
    counts = Counter(draw_fixed(index.to_bytes(32, "big"), range(10), 1)[0] for index in range(4000))
    assert sum((counts[i] - 400) ** 2 / 400 for i in range(10)) < 27.9
    assert ticket(bytes(32), 0) != ticket(bytes(32), 1)


def test_winners_follow_the_cumulative_shares() -> None:
    allocation = [[64, 0], [64, 256], [64, 0]]  # 2^8 units; item 0 stays unsold with chance 1/4
    counts: Counter[int] = Counter()
    for index in range(2000):
        seed = index.to_bytes(32, "big")
        u = draw_number(seed, 0, 8)
        winner, sure = draw_winners(allocation, seed, 8, "per_item")
        assert sure == 1
        assert winner == (u // 64 if u < 192 else -1)
        counts[winner] += 1
        joint = draw_winners([[128, 128], [128, 128]], seed, 8, "joint")
        assert joint[0] == joint[1]
    assert all(abs(counts[seat] - 500) < 5 * (500 * 0.75) ** 0.5 for seat in (-1, 0, 1, 2))


@given(
    st.lists(st.integers(0, 16), min_size=2, max_size=2), st.lists(st.integers(0, 9), min_size=2, max_size=2), st.data()
)
def test_realised_charges_are_exact_to_a_fine_unit(shares: list[int], bids: list[int], data: st.DataObject) -> None:
    worth = sum(s * b for s, b in zip(shares, bids, strict=True))
    payment = data.draw(st.integers(0, worth))
    total = Fraction(0)
    for won, chance in (([], 1), ([0], 1), ([1], 1), ([0, 1], 1)):
        charge = charge_of("realised", shares, bids, payment, won, 4)
        assert 0 <= charge <= 16 * sum(bids[item] for item in won)
        total += chance * charge
    for item in (0, 1):  # expectation over the draw of each item alone
        exact = Fraction(payment * 16 * bids[item], worth) if worth else Fraction(0)
        assert 0 <= exact - charge_of("realised", shares, bids, payment, [item], 4) < 1
    assert charge_of("expected", shares, bids, payment, [0], 4) == payment
