"""Does cheating pay? The best strategies against each audit rule, by exact dynamic programming and by play (spec 9).

Everything here is derived from the rules of play alone, not from the penalties of `protocol.penalties`, which are
tested against it (only the chance to draw a deviating round is shared; an enumeration of all draws checks it). A
deviating round gains g (or its own gain); an audited deviating round is found; the penalty is paid once. Docs:
docs/penalties.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from protocol.penalties import detection_fixed

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


def exhaustive_fixed(
    rounds: int, k: int, gains: Sequence[int], penalty: Fraction, *, returned: bool = False
) -> Fraction:
    """Return the largest expected profit over all sets of deviating rounds; k of T are drawn at the end (spec 9.3).

    Nothing is learnt before the end, so a strategy is a set of rounds; all of them and all draws are enumerated.
    """
    draws = list(combinations(range(rounds), k))
    best = Fraction(0)
    for size in range(rounds + 1):
        for cheated in combinations(range(rounds), size):
            gained = sum(gains[index] for index in cheated)
            found = sum(1 for draw in draws if set(draw) & set(cheated))
            lost = Fraction(found, len(draws)) * (penalty + (gained if returned else 0))
            best = max(best, gained - lost)
    return best


def exhaustive_fined(rounds: int, k: int, g: int, fine: Fraction, *, returned: bool = False) -> Fraction:
    """Return the largest expected profit where each audited deviating round pays a fine (spec 9.4)."""
    draws = list(combinations(range(rounds), k))
    best = Fraction(0)
    for size in range(rounds + 1):
        cheated = set(range(size))  # rounds are alike
        found = Fraction(sum(len(set(draw) & cheated) for draw in draws), len(draws))
        best = max(best, size * g - found * (fine + (g if returned else 0)))
    return best


def best_independent(rounds: int, q: Fraction, g: int, penalty: Fraction, *, returned: bool = False) -> Fraction:
    """Return the largest expected profit where each round is audited with chance q, known at the end (spec 9.5)."""
    best = Fraction(0)
    for size in range(rounds + 1):
        missed = Fraction(1)
        for _ in range(size):
            missed *= 1 - q
        best = max(best, size * g - (1 - missed) * (penalty + (size * g if returned else 0)))
    return best


def best_stream(
    rounds: int,
    chances: Sequence[Fraction],
    lag: int,
    gains: Sequence[int],
    penalty: Fraction,
    *,
    beta: Fraction = Fraction(1),
    returned: bool = False,
) -> Fraction:
    """Return the value of the optimal adaptive strategy in a stream that halts L rounds after a detection (spec 9.6).

    Dynamic programming over (round, rounds until the halt): round t is audited with `chances[t]` and proved with
    chance beta; the auctioneer knows at once and may go on cheating until the verdict; the penalty is paid once.
    Returned: an audited deviating round's gain is paid back.
    """

    @cache
    def value(index: int, left: int) -> Fraction:
        if index == rounds or left == 0:
            return Fraction(0)
        halting = left > 0  # -1: nothing detected yet
        honest = value(index + 1, left - 1 if halting else -1)
        chance = chances[index] * beta
        gain = Fraction(gains[index])
        if halting:
            return max(honest, gain - (chance * gain if returned else 0) + value(index + 1, left - 1))
        detected = -penalty - (gain if returned else 0) + value(index + 1, lag)
        return max(honest, gain + chance * detected + (1 - chance) * value(index + 1, -1))

    return value(0, -1)


def best_epochs(epoch: int, k: int, after: int, g: int, penalty: Fraction, *, returned: bool = False) -> Fraction:
    """Return the largest profit over one epoch of E rounds, k drawn at its end, A rounds until the halt (spec 9.7).

    After a detection the auctioneer cheats in all of the A rounds that are left to it.
    """
    draws = list(combinations(range(epoch), k))
    best = Fraction(0)
    for size in range(epoch + 1):
        cheated = set(range(size))
        found = Fraction(sum(1 for draw in draws if set(draw) & cheated), len(draws))
        best = max(best, size * g + found * (after * g - penalty - (size * g if returned else 0)))
    return best


@dataclass(frozen=True, slots=True)
class Plan:
    """A way to cheat.

    Attributes:
        name: For people.
        deviates: Given the round, the gain of each session in it, the deviations that each has made, and a source:
            which sessions deviate, while nothing is detected.
    """

    name: str
    deviates: Callable[[int, Floats, Counts, np.random.Generator], Flags]


def optimal_fixed(sample: Floats, rounds: int, k: int, penalty: float) -> tuple[float, Floats]:
    """Solve the game of spec 9.3 where each round's gain is drawn from a sample and seen before the decision.

    Args:
        sample: (n,) gains, each equally likely in every round.
        rounds: T.
        k: Rounds audited at the end.
        penalty: F.

    Returns:
        The value, and thresholds (T, T): deviate in a round, after so many deviations, if the gain is above.
    """
    missed = np.array([float(1 - detection_fixed(rounds, k, w)) for w in range(rounds + 1)])
    value, (thresholds,) = optimal_epochs(sample, [missed], penalty)  # the whole session is one epoch
    return value, thresholds


def optimal_stream(sample: Floats, rounds: int, q: float, lag: int, penalty: float) -> tuple[float, Floats]:
    """Solve the stream of spec 9.6 over T rounds in the same way; thresholds (T,) hold while nothing is detected."""
    free = np.maximum(sample, 0).mean()  # after a detection every round left is cheated
    value, thresholds = 0.0, np.zeros(rounds)
    for index in range(rounds - 1, -1, -1):
        caught = -penalty + free * min(lag, rounds - 1 - index)
        thresholds[index] = least = value - (q * caught + (1 - q) * value)
        value += float(np.maximum(sample - least, 0).mean())
    return value, thresholds


def optimal_epochs(sample: Floats, missed: Sequence[Floats], penalty: float) -> tuple[float, list[Floats]]:
    """Solve a session of epochs that are audited at their end and halt on a detection (spec 9.3, 9.7).

    Each round's gain is drawn from a sample and seen before the decision; gains are kept, and nothing more can be
    gained once the session has halted.

    Args:
        sample: (n,) gains, each equally likely in every round.
        missed: For each epoch, of E rounds: (E + 1,) chance that the audit misses all of w deviating ones.
        penalty: F.

    Returns:
        The value, and thresholds (E, E) of each epoch: deviate at a place of it, after so many deviations in it, if the
        gain is above.
    """
    thresholds: list[Floats] = []
    following = 0.0
    for chances in reversed(missed):
        rounds = len(chances) - 1
        value = chances * following - penalty * (1 - chances)
        least_of = np.zeros((rounds, rounds))
        for place in range(rounds - 1, -1, -1):
            made = np.arange(place + 1)
            least_of[place, : place + 1] = least = value[made] - value[made + 1]
            value = value[made + 1] + np.maximum(sample[:, None], least[None]).mean(axis=0)
        following = float(value[0])
        thresholds.append(least_of)
    return following, thresholds[::-1]


def steady_epochs(missed: Sequence[Floats], penalty: float) -> float:
    """Return the value of `optimal_epochs` where every round gains 1: the worst case, in units of g.

    Within an epoch only the number of deviations matters then, so the best of them is taken.
    """
    value = 0.0
    for chances in reversed(missed):
        value = float((np.arange(len(chances)) - penalty * (1 - chances) + chances * value).max())
    return value


def strategies(rounds: int, penalty: float, thresholds: Floats) -> list[Plan]:
    """Return the strategies that the acceptance of spec 9 is measured with.

    Args:
        rounds: T.
        penalty: F, fine units.
        thresholds: Of `optimal_fixed` or `optimal_stream`.
    """

    def optimal(index: int, gains: Floats, made: Counts, source: np.random.Generator) -> Flags:
        least = thresholds[index] if thresholds.ndim == 1 else thresholds[index, made]
        return np.asarray(gains > least)

    return [
        Plan("constant", lambda _, gains, *__: gains > 0),
        Plan("random 10 %", lambda _, gains, __, source: source.random(len(gains)) < 0.1),
        Plan("threshold F/T", lambda _, gains, *__: gains > penalty / rounds),  # appendix A.2 of the paper
        Plan("dynamic programme", optimal),
    ]


def play_fixed(plan: Plan, gains: Floats, k: int, penalty: float, source: np.random.Generator) -> Floats:
    """Play sessions of T rounds with k audits at the end.

    Args:
        plan: How the auctioneer cheats.
        gains: (sessions, T), what a deviation in each round gains.
        k: Rounds audited.
        penalty: F.
        source: Draws everything.

    Returns:
        (sessions,) profits over honest play.
    """
    sessions, rounds = gains.shape
    made, deviating = np.zeros(sessions, dtype=np.int64), np.zeros((sessions, rounds), dtype=bool)
    for index in range(rounds):
        deviating[:, index] = plan.deviates(index, gains[:, index], made, source)
        made += deviating[:, index]
    tickets = source.random((sessions, rounds))
    drawn = tickets <= np.partition(tickets, k - 1, axis=1)[:, k - 1 : k]
    caught = (drawn & deviating).any(axis=1)
    profit: Floats = (gains * deviating).sum(axis=1) - penalty * caught
    return profit


def play_stream(plan: Plan, gains: Floats, q: float, lag: int, penalty: float, source: np.random.Generator) -> Floats:
    """Play streams that halt L rounds after the first detection; after it the auctioneer cheats in every round left.

    Args and result as in `play_fixed`; q is the chance of an audit.
    """
    sessions, rounds = gains.shape
    profit, left, made = np.zeros(sessions), np.full(sessions, -1), np.zeros(sessions, dtype=np.int64)
    for index in range(rounds):
        running, free = left != 0, left > 0
        deviates = running & (free | plan.deviates(index, gains[:, index], made, source))
        made += deviates
        profit += gains[:, index] * deviates
        found = deviates & (left < 0) & (source.random(sessions) < q)
        profit -= penalty * found
        left = np.where(free, left - 1, left)
        left = np.where(found, lag, left)
    return profit
