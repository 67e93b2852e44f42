"""Which rounds are audited: seed, tickets, modes (spec 5.5, 7.1, 7.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from protocol.encoding import hash_of


def audit_seed(session: str, epoch: int, root: str, contributions: Mapping[str, str], beacon: str = "") -> bytes:
    """Return the seed of an epoch's audit draw.

    Values are listed by party, never combined (spec 5.5); one that is honest and hidden is enough (spec 1.3).
    """
    listed = [{"party": party, "value": contributions[party]} for party in sorted(contributions)]
    return hash_of(
        "audit", {"beacon": beacon, "contributions": listed, "epoch": epoch, "root": root, "session": session}
    )


def ticket(seed: bytes, round_index: int) -> int:
    """Return the 256-bit rank of a round (spec 7.1)."""
    return int.from_bytes(hash_of("ticket", {"round": round_index, "seed": seed.hex()}), "big")


def by_ticket(seed: bytes, rounds: range) -> list[int]:
    """Return the rounds in ticket order, ties by number."""
    return sorted(rounds, key=lambda index: (ticket(seed, index), index))


def draw_fixed(seed: bytes, rounds: range, count: int) -> list[int]:
    """Return the `count` rounds with the smallest tickets, in ticket order (spec 7.2, fixed)."""
    return by_ticket(seed, rounds)[:count]


def draw_independent(seed: bytes, rounds: range, chance: Callable[[int], tuple[int, int]]) -> list[int]:
    """Return every round whose ticket falls below its chance of the range, in ticket order (spec 7.2).

    Args:
        seed: `audit_seed` of the epoch.
        rounds: Rounds of the epoch.
        chance: Numerator and denominator by round: q for all ("independent") or a round's own ("exposure").
    """
    drawn = []
    for index in by_ticket(seed, rounds):
        numerator, denominator = chance(index)
        if ticket(seed, index) * denominator < numerator << 256:
            drawn.append(index)
    return drawn
