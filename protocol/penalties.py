"""What makes cheating not pay: gain bounds, penalties, detection, the best audit rate (spec 9; docs/penalties.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb, isqrt


def gain_bound(items: int, bid_max: int, share_bits: int) -> int:
    """Return g = V: the sum over items of the highest value in the support, in fine units (spec 9.11).

    With payment <= bid checked in every round and every item allocated at most once, no outcome earns more.
    """
    return (items * bid_max) << share_bits


def _above(bound: Fraction | int) -> int:
    return int(Fraction(bound) // 1) + 1  # every bound is strict (spec 9.1)


def penalty_fixed(rounds: int, k: int, g: int, *, gains: str = "kept", coins: int = 1) -> int:
    """Return the least penalty for k of T rounds audited at the end (spec 9.3).

    Args:
        rounds: T.
        k: Rounds audited, uniformly without replacement.
        g: Gain bound, fine units.
        gains: "kept": F > T g, whatever k; "returned": F > (T/k - 1) g.
        coins: m, the coins that aborting contributors may choose from (spec 9.12); F multiplies by (T/k)^(m-1).
    """
    bound = Fraction(rounds * g) if gains == "kept" else (Fraction(rounds, k) - 1) * g
    return _above(bound * Fraction(rounds, k) ** (coins - 1))


def penalty_fine_fixed(rounds: int, k: int, g: int, *, gains: str = "kept", beta: Fraction = Fraction(1)) -> int:
    """Return the least fine for each audited deviating round, k of T audited (spec 9.4).

    The largest bill is k times it.
    """
    rate = Fraction(rounds, k) / beta
    return _above((rate if gains == "kept" else rate - 1) * g)


def penalty_independent(rounds: int, q: Fraction, g: int, *, gains: str = "kept", coins: int = 1) -> int:
    """Return the least penalty for independent audits with chance q, known at the end (spec 9.5)."""
    bound = Fraction(rounds * g) / (1 - (1 - q) ** rounds) if gains == "kept" else g * (1 - q) / q
    return _above(bound / q ** (coins - 1))


def penalty_stream(
    q: Fraction, lag: int, g: int, *, gains: str = "kept", beta: Fraction = Fraction(1), coins: int = 1
) -> int:
    """Return the least penalty for a stream that halts at the first detection, L rounds late at most (spec 9.6).

    Kept: F > (1/(beta q) + L) g. Returned: F > ((1-q)/q + L) g.
    """
    factor = 1 / (beta * q) + lag if gains == "kept" else (1 - q) / q + lag
    return _above(factor * g / q ** (coins - 1))


def penalty_epochs(epoch: int, k: int, after: int, g: int, *, gains: str = "kept", coins: int = 1) -> int:
    """Return the least penalty for epochs of E rounds, k audited at the end, A rounds until the halt (spec 9.7)."""
    bound = (Fraction(epoch + after) if gains == "kept" else Fraction(epoch, k) - 1 + after) * g
    return _above(bound * Fraction(epoch, k) ** (coins - 1))


def audit_chance(exposure: int, penalty: int, lag: int, largest: int) -> Fraction:
    """Return the least chance with which a round of some exposure is audited, above g_t / (D - L g_max) (spec 9.10).

    Rounded up to a multiple of 1/2^20, at most 1.

    Args:
        exposure: g_t, fine units.
        penalty: D, fine units.
        lag: L, rounds until the verdict.
        largest: g_max over all rounds.

    Raises:
        ValueError: If D <= (L + 1) g_max: then no chance is enough.
    """
    if penalty <= (lag + 1) * largest or not 0 <= exposure <= largest:
        raise ValueError(f"penalty {penalty} is not above (L + 1) g_max = {(lag + 1) * largest} (spec 9.10)")
    steps = (exposure << 20) // (penalty - lag * largest) + 1
    return min(Fraction(steps, 1 << 20), Fraction(1))


def detection_fixed(rounds: int, k: int, deviating: int) -> Fraction:
    """Return P(w) = 1 - C(T-w, k)/C(T, k): the chance to audit one of w deviating rounds (spec 9.3)."""
    return 1 - Fraction(comb(rounds - deviating, k), comb(rounds, k))


def detection_independent(q: Fraction, deviating: int) -> Fraction:
    """Return P(w) = 1 - (1-q)^w (spec 9.5)."""
    return 1 - (1 - q) ** deviating


def audits_needed(rounds: int, deviating: int, miss: Fraction) -> int:
    """Return the least k that misses w deviating rounds of T with chance at most `miss` (spec 9.8), exactly."""
    low, high = 1, rounds - deviating + 1
    while low < high:
        middle = (low + high) // 2
        if 1 - detection_fixed(rounds, middle, deviating) <= miss:
            high = middle
        else:
            low = middle + 1
    return low


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a manifest's audit rule calls for, in fine units."""

    preset: str
    gain_bound: int
    penalty: int
    deposit: int
    rule: str


def requirement(
    preset: str, *, g: int, rounds: int, k: int, q: Fraction, lag: int, coins: int = 1, gains: str = "kept"
) -> Requirement:
    """Return the penalty and deposit of a preset (spec 7.3, 9.9).

    Args:
        preset: "published" (one epoch of T rounds, k drawn) or "prompt" (each round with chance q, halt, lag L).
        g: Gain bound of one round.
        rounds: T, for "published".
        k: Rounds drawn, for "published".
        q: Chance of an audit, for "prompt".
        lag: L, for "prompt".
        coins: m = 2^c (spec 5.8).
        gains: "kept" or "returned" (spec 9.2).

    Raises:
        ValueError: If the preset or `gains` is neither of its two.
    """
    if gains not in ("kept", "returned"):
        raise ValueError(f"gains {gains!r}, wanted kept or returned (spec 9.2)")
    if preset == "published":
        return Requirement(preset, g, f := penalty_fixed(rounds, k, g, coins=coins, gains=gains), f, "9.3")
    if preset == "prompt":
        return Requirement(preset, g, f := penalty_stream(q, lag, g, coins=coins, gains=gains), f, "9.6")
    raise ValueError(f"preset {preset!r}, wanted published or prompt (spec 7.3)")


def least_independent(rounds: int, q: Fraction, g: int, deviating: int) -> Fraction:
    """Return w g / P(w): the penalty at which w deviating rounds gain nothing, gains kept (spec 9.5)."""
    return deviating * g / detection_independent(q, deviating)


def clean_audits(k: int, confidence: Fraction = Fraction(19, 20)) -> float:
    """Return the upper confidence bound on the rate of deviating rounds after k clean audits, about 3/k (spec 9.8)."""
    if k < 1 or not 0 < confidence < 1:
        raise ValueError(f"{k} audits and confidence {confidence}: wanted at least 1, and above 0 and below 1")
    return float(1 - (1 - float(confidence)) ** (1 / k))


def best_audits(rounds: int, g: int, capital: Fraction, audit: int) -> int:
    """Return the k that costs least: audits and the capital of a deposit of about T g / k, gains returned (spec 9.9).

    The cost is c_a k + r T g / k, least at k = sqrt(r T g / c_a), rounded here to the better neighbour.

    Args:
        rounds: T.
        g: Gain bound, fine units.
        capital: r, cost of holding one unit for the session.
        audit: c_a, cost of one audit, fine units.
    """
    return _best(capital * rounds * g, audit, rounds)


def best_rate(epoch: int, g: int, capital: Fraction, audit: int) -> Fraction:
    """Return the q that costs least in a stream of N rounds an epoch: sqrt(r g / (c_a N)), at most 1 (spec 9.9).

    As a multiple of 1/N; the cost is c_a q N + r g / q.
    """
    return Fraction(_best(capital * g * epoch, audit, epoch), epoch)


def _best(scale: Fraction, audit: int, most: int) -> int:
    """Return the k within 1 to `most` that minimises audit k + scale / k."""
    if audit < 1 or most < 1 or scale < 0:
        raise ValueError(
            f"cost of an audit {audit}, at most {most}: wanted at least 1 each, and a cost of capital >= 0"
        )
    root = isqrt(int(scale / audit))
    candidates = {min(max(k, 1), most) for k in (root, root + 1)}
    return min(candidates, key=lambda k: (audit * k + scale / k, k))


def expected_audits(chances: Sequence[Fraction]) -> Fraction:
    """Return the expected number of audits: the sum of pi_t (spec 9.10)."""
    return sum(chances, Fraction(0))


def best_revenue(bids: Sequence[Sequence[int]], share_bits: int, valuation: str = "additive") -> int:
    """Return V(bids): the most that any feasible outcome with payment <= bid earns, in fine units (spec 9.11).

    Additive: the sum over items of the highest bid. Unit demand: the heaviest matching of bidders and items.

    Args:
        bids: Grid units, by bidder and item, after the support rule.
        share_bits: Units of shares.
        valuation: "additive" or "unit_demand".
    """
    if not bids or not bids[0]:
        return 0
    if valuation == "additive":
        return sum(max(row[item] for row in bids) for item in range(len(bids[0]))) << share_bits
    if valuation != "unit_demand":
        raise ValueError(f"valuation {valuation!r}, wanted additive or unit_demand (spec 3.14)")
    return _heaviest_matching(bids) << share_bits


def auctioneer_regret(
    bids: Sequence[Sequence[int]], payments: Sequence[int], share_bits: int, valuation: str = "additive"
) -> int:
    """Return V(bids) minus the revenue of an outcome: what the auctioneer leaves on the table, fine units (spec 9.11).

    Of the honest outcome it is the largest gain of deviating in that round; over the support it is at most g.

    Args:
        bids: Grid units, by bidder and item.
        payments: By bidder, fine units.
        share_bits: Units of shares.
        valuation: "additive" or "unit_demand".
    """
    return best_revenue(bids, share_bits, valuation) - sum(payments)


def _heaviest_matching(weights: Sequence[Sequence[int]]) -> int:
    """Return the weight of the heaviest matching of a nonnegative integer matrix (Kuhn and Munkres, exact)."""
    rows, columns = len(weights), len(weights[0])
    size = max(rows, columns)
    cost = [[-(weights[i][j] if i < rows and j < columns else 0) for j in range(size)] for i in range(size)]
    u, v, match = [0] * (size + 1), [0] * (size + 1), [0] * (size + 1)
    infinity = 1 + sum(-min(row) for row in cost) * 2
    for row in range(1, size + 1):
        match[0], column = row, 0
        least, way, used = [infinity] * (size + 1), [0] * (size + 1), [False] * (size + 1)
        while match[column]:
            used[column] = True
            here, delta, following = match[column], infinity, 0
            for j in range(1, size + 1):
                if used[j]:
                    continue
                reduced = cost[here - 1][j - 1] - u[here] - v[j]
                if reduced < least[j]:
                    least[j], way[j] = reduced, column
                if least[j] < delta:
                    delta, following = least[j], j
            for j in range(size + 1):
                if used[j]:
                    u[match[j]] += delta
                    v[j] -= delta
                else:
                    least[j] -= delta
            column = following
        while column:
            match[column] = match[way[column]]
            column = way[column]
    return sum(-cost[match[j] - 1][j - 1] for j in range(1, size + 1))
