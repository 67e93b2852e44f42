"""Realising lotteries and charging for them, in integers (spec 3.15, 3.16, 5.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from protocol.encoding import hash_of

UNSOLD = -1


def lottery_seed(session: str, round_index: int, close_root: str, links: Mapping[str, str], beacon: str = "") -> bytes:
    """Return the seed of a round's draws from the revealed links by party id (spec 5.7)."""
    listed = [{"party": party, "value": links[party]} for party in sorted(links)]
    body = {"beacon": beacon, "close_root": close_root, "links": listed, "round": round_index, "session": session}
    return hash_of("lottery", body)


def draw_number(seed: bytes, item: int, share_bits: int) -> int:
    """Return u of an item: the first `share_bits` bits of H("draw", {item, seed}) (spec 3.15)."""
    digest = hash_of("draw", {"item": item, "seed": seed.hex()})
    return int.from_bytes(digest[:4], "big") >> (32 - share_bits)


def draw_winners(allocation: Sequence[Sequence[int]], seed: bytes, share_bits: int, mode: str) -> list[int]:
    """Draw the winner of each item.

    Args:
        allocation: Shares by seat and item, in 2^-share_bits of an item.
        seed: `lottery_seed` of the round.
        share_bits: At most 32.
        mode: "per_item", or "joint": the u of item 0 for all items.

    Returns:
        Seat by item; -1 for an item that stays unsold.

    Raises:
        ValueError: If the mode is not one of these.
    """
    if mode not in ("per_item", "joint"):
        raise ValueError(f"draw mode {mode!r}, wanted per_item or joint (spec 3.15)")
    items = len(allocation[0]) if allocation else 0
    winners = []
    for item in range(items):
        u = draw_number(seed, item if mode == "per_item" else 0, share_bits)
        cumulative, winner = 0, UNSOLD
        for seat, row in enumerate(allocation):
            cumulative += row[item]
            if cumulative > u:
                winner = seat
                break
        winners.append(winner)
    return winners


def charge_of(
    rule: str, shares: Sequence[int], bids: Sequence[int], payment: int, won: Sequence[int], share_bits: int
) -> int:
    """Return what a bidder is charged, in fine units (spec 3.16).

    Args:
        rule: "expected" (the payment, whatever is won) or "realised" (the payment scaled to what is won).
        shares: The bidder's share of each item.
        bids: Its bids, in grid units.
        payment: Its payment, in fine units.
        won: Items that the draw gave it.
        share_bits: Units of shares and payments.
    """
    if rule == "expected":
        return payment
    if rule != "realised":
        raise ValueError(f"charge rule {rule!r}, wanted expected or realised (spec 3.16)")
    worth = sum(share * bid for share, bid in zip(shares, bids, strict=True))
    if worth == 0:
        return 0
    return (payment << share_bits) * sum(bids[item] for item in won) // worth
