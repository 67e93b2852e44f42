"""Auctioneers: honest, and every way of cheating that money tempts to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from credible.simulation.agents.base import AuctioneerAgent, Desk, Execute, Settling, runs
from credible.simulation.deterrence import optimal_epochs
from credible.simulation.draws import Counts, Flags, Floats

IMAGINED: Final = 2048  # rounds of the prior that an optimal cheater looks at
LONGEST: Final = 2000  # rounds of an epoch that it plans for
TABLE: Final = 50_000_000  # thresholds that it keeps


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 < rate <= 1:
        raise ValueError(f"rate of deviating rounds is {text!r}, wanted above 0 and at most 1")
    return rate


def _whole(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{what} is {text!r}, wanted a whole number")
    return int(text)


def _check_seat(seat: int, desk: Desk) -> None:
    if seat >= desk.header.bidders:
        raise ValueError(f"seat {seat} is named, the artifact has seats 0 to {desk.header.bidders - 1}")


def extraction(settling: Settling, own: Flags) -> tuple[Counts, Counts]:
    """Return the outcome that earns most within tier 1: every item to its highest bidder, at its bid (spec 9.11).

    Shills are left out: what they pay is no revenue.
    """
    bids, unit = settling.bids * own[None, :, None], settling.unit_share
    top = bids == bids.max(axis=1, keepdims=True)
    first = (np.cumsum(top, axis=1) == 1) & settling.participation[:, :, None] & (bids > 0)
    allocation = np.where(first & top, unit, 0)  # nobody gets what nobody bids for
    return allocation, settling.ceilings(allocation)


class Honest(AuctioneerAgent):
    """Publishes what the artifact computes."""


class Cheating(AuctioneerAgent, ABC):
    """Deviates in some rounds; what it then publishes, and when, is for subclasses."""

    @abstractmethod
    def when(self, settling: Settling, gains: Counts) -> Flags:
        """Return in which markets it deviates, given what it would gain, (lanes,)."""

    def instead(self, settling: Settling) -> tuple[Counts, Counts]:
        """Return what it publishes where it deviates: every payment raised to the bidder's own bid."""
        return settling.allocation, settling.ceilings()

    def claim(self, settling: Settling) -> tuple[Counts, Counts]:
        """Return the honest result, and another where it deviates."""
        allocation, payment = self.instead(settling)
        gains = (payment - settling.payment)[:, self.desk.own].sum(axis=1)
        if self.friend is not None:
            bids = settling.bids[:, self.friend]
            gains = gains + ((allocation - settling.allocation)[:, self.friend] * bids).sum(axis=1)
            gains = gains - (payment - settling.payment)[:, self.friend]
        chosen = self.when(settling, gains) & settling.running
        return (
            np.where(chosen[:, None, None], allocation, settling.allocation),
            np.where(chosen[:, None], payment, settling.payment),
        )


class Inflating(Cheating):
    """Raises every payment of a share of the rounds to the bidder's own bid: tier 1 cannot see it; `inflate:0.1`."""

    def __init__(self, rate: str = "0.1") -> None:
        self._rate = _rate(rate)

    def when(self, settling: Settling, gains: Counts) -> Flags:
        """Return where the draw of the round says so."""
        return np.asarray(self.desk.draws.uniform(settling.round_index, 1)[:, 0] < self._rate)


class Phantom(Inflating):
    """Claims a rival's bid just under each winner's: 2.99 where it bid 3 (the paper's introduction); `phantom:0.1`."""

    def instead(self, settling: Settling) -> tuple[Counts, Counts]:
        """Return payments one grid unit a share below the own bid, never below the honest ones."""
        below = (settling.allocation * np.maximum(settling.bids - 1, 0)).sum(axis=2)
        return settling.allocation, np.maximum(below, settling.payment)


class Favouring(Inflating):
    """Gives a friend every item for nothing in a share of the rounds; `favour:SEAT:0.1`."""

    def __init__(self, seat: str = "0", rate: str = "0.1") -> None:
        super().__init__(rate)
        self.friend = self._seat = _whole(seat, "the friend's seat")

    def start(self, desk: Desk) -> None:
        """Take the desk; raise ValueError if there is no such seat."""
        super().start(desk)
        _check_seat(self._seat, desk)

    def instead(self, settling: Settling) -> tuple[Counts, Counts]:
        """Return everything to the friend where it takes part."""
        allocation = np.zeros_like(settling.allocation)
        allocation[:, self._seat] = settling.unit_share
        here = settling.participation[:, self._seat]
        return (
            np.where(here[:, None, None], allocation, settling.allocation),
            np.where(here[:, None], 0, settling.payment),
        )


class Dropping(AuctioneerAgent):
    """Gives a receipt for a seat's bid and does not log it, in a share of the rounds; the victim sees; `drop:0:0.1`."""

    def __init__(self, seat: str = "0", rate: str = "0.1") -> None:
        self.victim, self._rate = _whole(seat, "the victim's seat"), _rate(rate)

    def start(self, desk: Desk) -> None:
        """Take the desk; raise ValueError if there is no such seat."""
        super().start(desk)
        _check_seat(self.victim, desk)

    def drops(self, round_index: int) -> Flags | None:
        """Return the victim's seat where the draw of the round says so."""
        dropped = np.zeros((self.desk.lanes, self.desk.header.bidders), dtype=bool)
        dropped[:, self.victim] = self.desk.draws.uniform(round_index, 1)[:, 0] < self._rate
        return dropped


class Swapping(Inflating):
    """Runs another artifact than the published one in a share of the rounds; `swap:FILE.onnx:0.1`."""

    def __init__(self, file: str = "", rate: str = "0.1") -> None:
        super().__init__(rate)
        self._file = Path(file)

    def start(self, desk: Desk) -> None:
        """Load the other artifact; raise ValueError if it is for other rounds."""
        from protocol.artifact.engine import Engine

        super().start(desk)
        engine = Engine(self._file.read_bytes())
        mine, other = desk.header, engine.artifact.header
        if (mine.bidders, mine.items, mine.share_bits) != (other.bidders, other.items, other.share_bits):
            raise ValueError(f"{self._file} is for other rounds than the published artifact")
        self._other: Execute = runs(engine, desk.context if other.context else ())

    def instead(self, settling: Settling) -> tuple[Counts, Counts]:
        """Return what the other artifact makes of the bids, payments cut to what tier 1 lets through."""
        arrays = self._other(settling.bids, settling.participation)
        return arrays["allocation"], np.minimum(arrays["payment"], settling.ceilings(arrays["allocation"]))


class Threshold(Cheating):
    """Deviates exactly when that gains more than penalty / T (the paper's appendix A.2); `threshold`."""

    def when(self, settling: Settling, gains: Counts) -> Flags:
        """Return where the gain is above the threshold."""
        return np.asarray(gains > float(Fraction(self.desk.terms.penalty, self.desk.terms.rounds)))

    def instead(self, settling: Settling) -> tuple[Counts, Counts]:
        """Return the outcome that earns most within tier 1."""
        return extraction(settling, self.desk.own)


class RandomRounds(Cheating):
    """Deviates in w rounds drawn before the session; `random:10`."""

    def __init__(self, rounds: str = "10") -> None:
        self._count = _whole(rounds, "the number of deviating rounds")

    def start(self, desk: Desk) -> None:
        """Draw the rounds of every market; raise ValueError if there are not so many."""
        super().start(desk)
        rounds = desk.terms.rounds
        if not 1 <= self._count <= rounds:
            raise ValueError(f"{self._count} deviating rounds, wanted 1 to {rounds}")
        order = desk.draws.uniform(0, rounds).argsort(axis=1, kind="stable")
        self._chosen = np.sort(order[:, : self._count], axis=1)

    def when(self, settling: Settling, gains: Counts) -> Flags:
        """Return where this is one of the rounds."""
        return np.asarray((self._chosen == settling.round_index).any(axis=1))

    def instead(self, settling: Settling) -> tuple[Counts, Counts]:
        """Return the outcome that earns most within tier 1."""
        return extraction(settling, self.desk.own)


class Rare(Cheating):
    """Raises the payments of the first rounds with one participation profile; `rare:101:10`."""

    def __init__(self, mask: str = "", rounds: str = "") -> None:
        self._limit = int(rounds) if rounds.isascii() and rounds.isdigit() else 0
        if not mask or set(mask) - {"0", "1"} or self._limit < 1:
            raise ValueError(f"rare:{mask}:{rounds}, wanted rare:PROFILE:ROUNDS, one digit a seat (rare:101:10)")
        self._mask = np.array([digit == "1" for digit in mask])

    def start(self, desk: Desk) -> None:
        """Take the desk; raise ValueError if the profile has another number of seats."""
        super().start(desk)
        if len(self._mask) != desk.header.bidders:
            raise ValueError(f"the profile names {len(self._mask)} seats, the artifact has {desk.header.bidders}")
        self._made = np.zeros(desk.lanes, dtype=np.int64)

    def when(self, settling: Settling, gains: Counts) -> Flags:
        """Return where the profile is met and the limit is not."""
        # a round that gains nothing is not spent
        chosen = (settling.participation == self._mask).all(axis=1) & (self._made < self._limit) & (gains > 0)
        self._made += chosen & settling.running
        return np.asarray(chosen)


class Optimal(Cheating):
    """The adaptive cheater that no other beats: a dynamic programme against the announced rules; `optimal`.

    It sees each round's gain before it decides, knows how many rounds of the epoch it has spoilt and the chance that
    the audit misses them all, and weighs the gain against that (`deterrence.optimal_epochs`).
    """

    def start(self, desk: Desk) -> None:
        """Solve the game; raise ValueError if it is too long, or if gains are to be returned."""
        super().start(desk)
        rules = desk.terms
        self._made = np.zeros(desk.lanes, dtype=np.int64)
        self._thresholds: list[Floats] | None = None
        if rules.epochs == 1 and rules.penalty == 0:
            return  # nothing to lose
        if rules.epoch > LONGEST or rules.epochs * rules.epoch**2 > TABLE:
            raise ValueError(
                f"an optimal cheater plans epochs of at most {LONGEST} rounds and {TABLE:,} thresholds in all, got "
                f"{rules.epochs:,} epochs of {rules.epoch:,}"
            )
        if rules.gains != "kept":
            raise ValueError("an optimal cheater is computed where gains are kept; `penalty` covers both (spec 9.2)")
        values, present = desk.imagine(IMAGINED)  # shills bid nothing in the prior
        arrays = desk.execute(values, present)
        imagined = Settling(
            0, np.ones(len(values), dtype=bool), values, present, arrays["allocation"], arrays["payment"],
            1 << desk.header.share_bits,
        )  # fmt: skip
        better = extraction(imagined, desk.own)[1] - imagined.payment
        sample = better[:, desk.own].sum(axis=1).astype(np.float64)
        _, self._thresholds = optimal_epochs(sample, rules.missed_by_epoch(), float(rules.penalty))

    def when(self, settling: Settling, gains: Counts) -> Flags:
        """Return where the gain is worth the risk."""
        if self._thresholds is None:
            return np.asarray(gains > 0)
        rules = self.desk.terms
        epoch, place = divmod(settling.round_index, rules.epoch)
        if place == 0:
            self._made[:] = 0
        chosen = gains > self._thresholds[epoch][place, np.minimum(self._made, place)]
        self._made += chosen & settling.running
        return np.asarray(chosen)

    def instead(self, settling: Settling) -> tuple[Counts, Counts]:
        """Return the outcome that earns most within tier 1."""
        return extraction(settling, self.desk.own)


class Refusing(Inflating):
    """Inflates, and leaves challenges to those rounds unanswered; `refuse:0.1`."""

    refuses = True


class Equivocating(Inflating):
    """Inflates, and shows auditors another log than bidders; two signed heads convict it at once; `equivocate:0.1`."""

    splits = True
