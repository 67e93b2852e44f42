"""Realising lotteries and charging for them, in integers (spec 3.15, 3.16, 5.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from protocol.encoding import hash_of

if TYPE_CHECKING:  # a verifier starts without numpy
    import numpy as np
    import numpy.typing as npt

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
        mode: "per_item"; "joint": the u of item 0 for all items; "bvn": one draw of a whole assignment, in which no
            seat wins two items, with the u of item 0.

    Returns:
        Seat by item; -1 for an item that stays unsold.

    Raises:
        ValueError: If the mode is not one of these, or "bvn" is to draw from shares of a seat above one item.
    """
    if mode == "bvn":
        return assignment(allocation, share_bits, draw_number(seed, 0, share_bits))
    if mode not in ("per_item", "joint"):
        raise ValueError(f"draw mode {mode!r}, wanted per_item, joint or bvn (spec 3.15)")
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


def draw_many(allocation: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Draw the winners of many rounds from given numbers: the rule of `draw_winners`, item by item, in arrays.

    Args:
        allocation: Shares by round, seat and item, nonnegative, at most 2^share_bits an item.
        numbers: The u of each round and item; one column for all items if the mode is "joint".

    Returns:
        Seat by round and item; -1 for an item that stays unsold.
    """
    import numpy as np

    passed = allocation.cumsum(axis=1) > numbers[:, None, :]
    return np.where(passed[:, -1], passed.argmax(axis=1), UNSOLD)


def assignment(allocation: Sequence[Sequence[int]], share_bits: int, u: int) -> list[int]:
    """Return the assignment that covers `u` in the decomposition of an allocation into assignments (spec 3.15).

    Birkhoff and von Neumann: a square matrix of nonnegative integers whose rows and columns all sum to W is a sum of
    permutation matrices with integer weights that sum to W. The allocation is completed to such a matrix with a dummy
    column for each seat and a dummy row for each item. Weights are taken off one by one, each the smallest entry on a
    perfect matching of what is left; the matching is the one that augmenting paths find which try rows and columns in
    ascending order, so that everybody finds the same. The u-th unit of weight decides, so each share is met exactly.

    Args:
        allocation: Shares by seat and item, in 2^-share_bits of an item.
        share_bits: At most 32.
        u: Draw, 0 <= u < 2^share_bits.

    Returns:
        Seat by item; -1 for an item that stays unsold. No seat stands for two items.

    Raises:
        ValueError: If a share is negative, or a seat's or an item's shares sum to more than one.
    """
    whole = 1 << share_bits
    seats, items = len(allocation), len(allocation[0]) if allocation else 0
    columns = [sum(row[item] for row in allocation) for item in range(items)]
    if any(share < 0 for row in allocation for share in row) or any(
        total > whole for total in (*columns, *(sum(row) for row in allocation))
    ):
        raise ValueError("shares are negative, or a seat's or an item's sum to more than one (spec 3.14)")
    rest = [
        [*row, *(whole - sum(row) if seat == i else 0 for i in range(seats))] for seat, row in enumerate(allocation)
    ]
    rest += [
        [*(whole - columns[item] if item == i else 0 for i in range(items)), *(row[item] for row in allocation)]
        for item in range(items)
    ]
    size, passed = seats + items, 0
    while True:
        match = _matching(rest, size)
        weight = min(rest[row][column] for column, row in enumerate(match))
        passed += weight
        if passed > u:
            return [match[item] if match[item] < seats else UNSOLD for item in range(items)]
        for column, row in enumerate(match):
            rest[row][column] -= weight


def _matching(weights: list[list[int]], size: int) -> list[int]:
    """Return a perfect matching on the positive entries, row by column (Kuhn's augmenting paths, ascending order)."""
    match = [-1] * size

    def augment(row: int, seen: set[int]) -> bool:
        for column in range(size):
            if weights[row][column] > 0 and column not in seen:
                seen.add(column)
                if match[column] < 0 or augment(match[column], seen):
                    match[column] = row
                    return True
        return False

    for row in range(size):
        if not augment(row, set()):
            raise RuntimeError("no perfect matching: rows and columns do not sum to the same")
    return match


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
