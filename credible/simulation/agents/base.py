"""What an agent sees and may do: one small interface for bidders and one for auctioneers.

Agents play many markets side by side, one per lane: arrays begin with a lane, and the full protocol has one lane.
Whatever is written for one value works for all. A bidder in ten lines:

    class Half(Bidder):
        "Bids half of its values, and all of them once it has lost a round."

        def start(self, seat):
            super().start(seat)
            self.eager = np.zeros(seat.lanes, dtype=bool)

        def bid(self, round_index, values, present):
            return np.where(self.eager[:, None, None], values, values // 2)

        def observe(self, row):
            self.eager |= row.present[:, 0] & (row.shares.sum(axis=(1, 2)) == 0)

Agents must draw from `seat.draws` (`desk.draws`) alone: a session that is resumed plays its rounds again for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from credible.simulation.draws import Counts, Draws, Flags, Floats
from protocol.artifact import Header
from protocol.artifact.engine import Engine
from protocol.penalties import detection_fixed, detection_independent, gain_bound, requirement

Execute = Callable[[Counts, Flags], dict[str, npt.NDArray[np.int64]]]  # bids, participation -> the artifact's outputs
Imagine = Callable[[int], "tuple[Counts, Flags]"]  # count -> values and presence of so many rounds, by the public prior

OWN_MODULE = "credible_agent_"  # prefix of the modules that users' own agents are loaded as
MOST = 2**53  # fine units that a message carries (spec 2.1)
DEFAULT = "default"  # the paper's algorithm 2: bids in the clear, no log, no audit


@dataclass(frozen=True, slots=True)
class Terms:
    """The announced rules of a market, as far as money and audits go (spec 7.3, 9).

    Attributes:
        preset: "prompt", "published" or "default" (neither log nor audit).
        rounds: T.
        epoch: Rounds of an epoch; T for "published".
        k: Rounds audited of an epoch, for "published".
        q: Chance of an audit, for "prompt".
        lag: L, for "prompt".
        gain_bound: g, fine units.
        penalty: F, fine units.
        gains: "kept" or "returned" (spec 9.2).
    """

    preset: str
    rounds: int
    epoch: int
    k: int
    q: Fraction
    lag: int
    gain_bound: int
    penalty: int
    gains: str

    @property
    def epochs(self) -> int:
        """Number of epochs; the last may be shorter."""
        return -(-self.rounds // self.epoch)

    def rounds_of(self, epoch: int) -> range:
        """Return the rounds of an epoch."""
        return range(epoch * self.epoch, min((epoch + 1) * self.epoch, self.rounds))

    def detection(self, deviating: int, rounds: int | None = None) -> Fraction:
        """Return the chance that an audit draws one of some deviating rounds (spec 9.3, 9.5).

        Args:
            deviating: w, all of one epoch for "published".
            rounds: Rounds of that epoch; T if left out.
        """
        if self.preset == "published":
            return detection_fixed(self.rounds if rounds is None else rounds, self.k, deviating)
        return detection_independent(self.q, deviating)

    def missed(self, rounds: int) -> Floats:
        """Return the chance that the audit of an epoch of some rounds draws none of w deviating ones, (rounds + 1,)."""
        return np.array([1 - float(self.detection(w, rounds)) for w in range(rounds + 1)])

    def missed_by_epoch(self, first: int = 0) -> list[Floats]:
        """Return `missed` of every epoch from one on; the last may be shorter."""
        lengths = [len(self.rounds_of(epoch)) for epoch in range(first, self.epochs)]
        chances = {length: self.missed(length) for length in set(lengths)}
        return [chances[length] for length in lengths]


def terms(
    preset: str,
    header: Header,
    rounds: int,
    *,
    k: int = 1,
    q: Fraction = Fraction(1, 10),
    epoch: int = 5,
    gains: str = "kept",
    coins: int = 1,
    factor: Fraction = Fraction(1),
) -> Terms:
    """Return the terms of a preset with the penalty that spec 9 asks for.

    Args:
        preset: "prompt", "published" or "default".
        header: Of the artifact.
        rounds: T.
        k: Rounds audited, for "published".
        q: Chance of an audit, for "prompt".
        epoch: Rounds of an epoch, for "prompt"; L is as long.
        gains: "kept" or "returned".
        coins: m, the coins that aborting contributors may choose from (spec 9.12).
        factor: Multiplies the required penalty, to see what too little of it does.

    Raises:
        ValueError: If a number is out of range or the preset is unknown.
    """
    if rounds < 1 or epoch < 1:
        raise ValueError(f"{rounds} rounds in epochs of {epoch}, wanted at least 1 each")
    if not 0 < q <= 1:
        raise ValueError(f"q is {q}, wanted above 0 and at most 1")
    if factor < 0:
        raise ValueError(f"the penalty is to be multiplied by {factor}, wanted at least 0")
    g = gain_bound(header.items, header.bid_max, header.share_bits)
    if preset == DEFAULT:
        return Terms(preset, rounds, rounds, 0, Fraction(0), 0, g, 0, "kept")
    if preset == "published" and not 1 <= k <= rounds:
        raise ValueError(f"k is {k}, wanted 1 to {rounds}")
    epoch = rounds if preset == "published" else min(epoch, rounds)
    needed = requirement(preset, g=g, rounds=rounds, k=k, q=q, lag=epoch, gains=gains, coins=coins).penalty
    if needed * factor >= MOST:
        raise ValueError(
            f"the penalty would be {int(needed * factor)} fine units, above the 2^53 that messages carry (spec 2.1): "
            "use a coarser grid, fewer share bits, fewer rounds or more audits"
        )
    return Terms(preset, rounds, epoch, k, q, epoch, g, int(needed * factor), gains)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What every agent knows before the first round.

    Attributes:
        header: What the artifact says of itself.
        terms: The announced rules.
        lanes: Markets side by side.
        draws: Its own random numbers.
        execute: The published artifact.
        imagine: Values and presence of everybody in rounds like these: the public prior, not what will happen.
        context: The public integers of every round, such as a reserve; empty if the artifact takes none.
    """

    header: Header
    terms: Terms
    lanes: int
    draws: Draws
    execute: Execute
    imagine: Imagine
    context: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat(Known):
    """What a bidder knows: `seats` are its own, from 0; most bidders have one."""

    seats: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk(Known):
    """What the auctioneer knows: `own`, (bidders,), marks who bids for itself; what its shills pay is no revenue."""

    own: Flags


@dataclass(frozen=True, slots=True)
class Row:
    """What a bidder sees after a round: its own rows of the outcome.

    Attributes:
        round_index: Round, from 0.
        values: Its values, (lanes, seats, items).
        present: Whether it took part, (lanes, seats); False too in markets that are over.
        shares: In 2^-share_bits of an item, (lanes, seats, items).
        won: Whether the draw gave it the item, (lanes, seats, items).
        payment: Fine units, (lanes, seats).
    """

    round_index: int
    values: Counts
    present: Flags
    shares: Counts
    won: Flags
    payment: Counts


@dataclass(frozen=True, slots=True)
class Disclosed:
    """A round that was audited and is public: everybody's bids, in the lanes where it was drawn.

    Attributes:
        round_index: Round, from 0.
        lanes: Which lanes, (some,).
        values: The reader's own values in them, (some, seats, items).
        bids: Everybody's bids, (some, bidders, items).
        participation: Who took part, (some, bidders).
    """

    round_index: int
    lanes: Counts
    values: Counts
    bids: Counts
    participation: Flags


class Bidder:
    """A bidder, truthful unless a method is overridden. It sees its own values and rows, and what is public.

    Attributes:
        size: Seats that it takes; above one it is a coalition, or one bidder under several names.
        house: Whether it bids for the auctioneer: it values nothing, and what it pays is no revenue.
        peeks: Whether it bids after having seen the others' bids, which no commitment allows.
    """

    size: int = 1
    house: bool = False
    peeks: bool = False
    seat: Seat

    def start(self, seat: Seat) -> None:
        """Take the seat before the first round."""
        self.seat = seat

    def bid(self, round_index: int, values: Counts, present: Flags) -> Counts:
        """Return bids in grid units, (lanes, seats, items), within 0..bid_max.

        Args:
            round_index: Round, from 0.
            values: Its own values, (lanes, seats, items); zero where it is absent.
            present: Whether it is there, (lanes, seats).
        """
        return values

    def bid_after(self, round_index: int, bids: Counts, present: Flags) -> Counts:
        """Return the bids of an agent that peeks, given everybody else's; (lanes, bidders, items) to its own seats'."""
        raise NotImplementedError(f"{type(self).__name__} peeks, so it needs bid_after")

    def late(self, round_index: int) -> Flags | None:
        """Return where the bid comes after the deadline, (lanes, seats); None for nowhere."""
        return None

    def silent(self, round_index: int) -> Flags | None:
        """Return where it commits and never opens, (lanes, seats); None for nowhere."""
        return None

    def observe(self, row: Row) -> None:
        """See the own rows of a round."""

    def read(self, disclosed: Disclosed) -> None:
        """See an audited round, after its epoch."""

    def worth(self, values: Counts, shares: Counts) -> Counts:
        """Return what shares are worth to it in fine units, (lanes, seats); by its values, item by item."""
        return np.asarray((values * shares).sum(axis=2))

    def grid(self, bids: npt.NDArray[np.float64]) -> Counts:
        """Return bids floored and clamped to the grid."""
        return np.clip(np.floor(bids), 0, self.seat.header.bid_max).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Settling:
    """What the auctioneer sees when it settles a round: every opened bid and what the artifact makes of them.

    Attributes:
        round_index: Round, from 0.
        running: Markets that are not over, (lanes,).
        bids: Grid units, (lanes, bidders, items).
        participation: Who takes part, (lanes, bidders).
        allocation: The artifact's, (lanes, bidders, items).
        payment: The artifact's, fine units, (lanes, bidders).
        unit_share: Shares of a whole item.
    """

    round_index: int
    running: Flags
    bids: Counts
    participation: Flags
    allocation: Counts
    payment: Counts
    unit_share: int

    def ceilings(self, allocation: Counts | None = None) -> Counts:
        """Return the most that tier 1 lets through: each bidder's own bid for its share, fine units."""
        shares = self.allocation if allocation is None else allocation
        return np.asarray((shares * self.bids).sum(axis=2))


class AuctioneerAgent:
    """An auctioneer, honest unless a method is overridden.

    Attributes:
        friend: Seat whose utility counts as the auctioneer's own; None if there is no such bidder.
        refuses: Whether it leaves challenges to its deviating rounds unanswered (spec 7.4).
        splits: Whether it shows different logs to different readers (spec 4.13).
    """

    friend: int | None = None
    refuses: bool = False
    splits: bool = False
    desk: Desk

    def start(self, desk: Desk) -> None:
        """Take the desk before the first round."""
        self.desk = desk

    def drops(self, round_index: int) -> Flags | None:
        """Return whose bid gets a receipt and is never logged, (lanes, bidders); None for nobody's."""
        return None

    def claim(self, settling: Settling) -> tuple[Counts, Counts]:
        """Return the allocation and payments to publish."""
        return settling.allocation, settling.payment

    def told(self, epoch: int, caught: Flags) -> None:
        """Hear the verdict on an epoch, (lanes,)."""


@dataclass(frozen=True, slots=True)
class Values:
    """What bidders' values and presence are drawn from.

    Attributes:
        bidders: n.
        items: m.
        bid_max: Largest value, grid units.
        pool: Profiles to draw from, (profiles, bidders, items); uniform on the whole grid if None.
        seated: Who has values in each profile of the pool, (profiles, bidders).
        participation: Chance that a bidder comes, where no path says so.
        path: Who comes in round after round, (rounds, bidders); each market begins somewhere in it.
    """

    bidders: int
    items: int
    bid_max: int
    pool: Counts | None = field(default=None, repr=False)
    seated: Flags | None = field(default=None, repr=False)
    participation: float = 1.0
    path: Flags | None = field(default=None, repr=False)

    def draw(self, draws: Draws, round_index: int) -> tuple[Counts, Flags]:
        """Return values in grid units, (lanes, bidders, items), zero where absent, and presence, (lanes, bidders)."""
        n, m = self.bidders, self.items
        if self.pool is None:
            values = draws.below(round_index, self.bid_max + 1, n * m).reshape(-1, n, m)
            present = np.ones((draws.lanes, n), dtype=bool)
        else:
            chosen = draws.below(round_index, len(self.pool), 1)[:, 0]
            values = self.pool[chosen]
            present = np.ones((draws.lanes, n), dtype=bool) if self.seated is None else self.seated[chosen]
        if self.path is not None:
            begin = draws.other("begin").below(0, len(self.path), 1)[:, 0]
            present = present & self.path[(begin + round_index) % len(self.path)]
        elif self.participation < 1:
            present = present & (draws.other("presence").uniform(round_index, n) < self.participation)
        return values * present[:, :, None], present


def runs(engine: Engine, context: tuple[int, ...] = ()) -> Execute:
    """Return an artifact as agents and engines call it, the same context in every round.

    Raises:
        ValueError: If the artifact takes other context.
    """
    header = engine.artifact.header
    named = header.context
    if any(not 0 <= value <= header.bid_max for value in context):
        raise ValueError(f"context {list(context)}, wanted 0 to {header.bid_max} grid units each")
    if len(context) != len(named):
        raise ValueError(
            f"the artifact takes context {named} in every round, got {list(context)}; give as many integers"
            if named
            else f"the artifact takes no context, got {list(context)}"
        )
    if not context:
        return lambda bids, here: engine.run_arrays(bids, here.astype(np.int64))
    given = np.array([context], dtype=np.int64)
    return lambda bids, here: engine.run_arrays(bids, here.astype(np.int64), given.repeat(len(bids), axis=0))


def check_sizes(bidders: Sequence[Bidder], seats: int) -> None:
    """Raise ValueError unless the bidders take exactly the seats that there are."""
    taken = sum(bidder.size for bidder in bidders)
    if taken != seats:
        raise ValueError(f"the bidders take {taken} seats, the artifact has {seats}")
