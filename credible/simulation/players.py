"""Who plays a market: agents on their seats, asked in the same order by both engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from credible.simulation.agents.base import (
    DEFAULT,
    OWN_MODULE,
    AuctioneerAgent,
    Bidder,
    Desk,
    Disclosed,
    Execute,
    Row,
    Seat,
    Settling,
    Terms,
    Values,
    check_sizes,
)
from credible.simulation.draws import Counts, Draws, Flags
from protocol.artifact import Header


@dataclass(frozen=True, slots=True)
class Submitted:
    """What bidders do in a round; every array begins with (lanes, bidders).

    Attributes:
        values: True values, grid units, (lanes, bidders, items); zero where absent.
        bids: Grid units, (lanes, bidders, items); zero where absent.
        present: Who announces that it takes part.
        late: Whose bid comes after the deadline.
        silent: Who commits and does not open.
        dropped: Whose bid the auctioneer drops.
    """

    values: Counts
    bids: Counts
    present: Flags
    late: Flags
    silent: Flags
    dropped: Flags

    def of(self, lanes: Counts) -> Submitted:
        """Return what bidders do in some lanes."""
        return Submitted(*(getattr(self, part.name)[lanes] for part in fields(self)))

    @property
    def participation(self) -> Flags:
        """Whose bid counts."""
        return self.present & ~self.late & ~self.silent & ~self.dropped


class Players:
    """The agents of some lanes.

    Args:
        header: Of the artifact.
        execute: The artifact.
        rules: The announced terms.
        values: What values and presence are drawn from.
        bidders: In seat order.
        auctioneer: The auctioneer.
        secret: 32 bytes that decide every draw of values and agents.
        first: Number of the first lane.
        lanes: Number of lanes.
        context: The public integers of every round; `execute` runs with them.

    Raises:
        ValueError: If the bidders do not take exactly the artifact's seats, or an agent does not fit the terms.
    """

    def __init__(
        self,
        header: Header,
        execute: Execute,
        rules: Terms,
        values: Values,
        bidders: Sequence[Bidder],
        auctioneer: AuctioneerAgent,
        secret: bytes,
        first: int = 0,
        lanes: int = 1,
        context: tuple[int, ...] = (),
    ) -> None:
        check_sizes(bidders, header.bidders)
        if (values.bidders, values.items) != (header.bidders, header.items):
            raise ValueError(
                f"values are for {values.bidders} x {values.items}, the artifact for {header.bidders} x {header.items}"
            )
        self.header, self.execute, self.rules, self.values = header, execute, rules, values
        self.bidders, self.auctioneer, self.lanes, self.context = list(bidders), auctioneer, lanes, context
        self._drawn = Draws(secret, "values", first, lanes)
        prior = lambda count: values.draw(Draws(secret, "prior", 0, count), 0)  # noqa: E731
        known: dict[str, Any] = {
            "header": header, "terms": rules, "lanes": lanes, "execute": execute, "imagine": prior, "context": context,
        }  # fmt: skip
        self.seats: list[list[int]] = []
        self.house = np.zeros(header.bidders, dtype=bool)
        for bidder in self.bidders:
            begin = self.seats[-1][-1] + 1 if self.seats else 0
            own = list(range(begin, begin + bidder.size))
            self.seats.append(own)
            self.house[own] = bidder.house
            if bidder.peeks and rules.preset != DEFAULT:
                raise ValueError(
                    f"{type(bidder).__name__} needs to see bids before it bids: preset {rules.preset} hides them "
                    "behind commitments (spec 3.1); play preset default, or a blind shill"
                )
            bidder.seat = Seat(seats=tuple(own), draws=Draws(secret, f"bidder/{begin}", first, lanes), **known)
            with _blaming(bidder):
                bidder.start(bidder.seat)
        auctioneer.desk = Desk(own=~self.house, draws=Draws(secret, "auctioneer", first, lanes), **known)
        with _blaming(auctioneer):
            auctioneer.start(auctioneer.desk)
        if auctioneer.friend is not None and self.house[auctioneer.friend]:
            raise ValueError(f"seat {auctioneer.friend} is a shill already; a friend bids for itself")
        self.out = np.zeros((lanes, header.bidders), dtype=bool)

    def submit(self, round_index: int) -> Submitted:
        """Ask every bidder; raise ValueError if an agent's bids are no integers of the grid."""
        values, present = self.drawn(round_index)
        bids = np.zeros_like(values)
        late, silent = np.zeros_like(present), np.zeros_like(present)
        for bidder, own in zip(self.bidders, self.seats, strict=True):
            if not bidder.peeks:
                with _blaming(bidder):
                    answered = bidder.bid(round_index, values[:, own], present[:, own])
                bids[:, own] = self._checked(bidder, answered, own)
        bids *= present[:, :, None]
        for bidder, own in zip(self.bidders, self.seats, strict=True):
            if bidder.peeks:
                with _blaming(bidder):
                    answered = bidder.bid_after(round_index, bids.copy(), present.copy())
                bids[:, own] = self._checked(bidder, answered, own)
                bids *= present[:, :, None]
            with _blaming(bidder):
                for mask, answer in ((late, bidder.late(round_index)), (silent, bidder.silent(round_index))):
                    if answer is not None:
                        mask[:, own] = answer
        late &= present
        silent &= present & ~late
        with _blaming(self.auctioneer):
            answer = self.auctioneer.drops(round_index)
            dropped = np.zeros_like(present) if answer is None else answer & present & ~late & ~silent
        if self.rules.preset != DEFAULT:  # there nothing is committed: nothing is left unopened, nobody has a receipt
            self.out |= silent | dropped  # no deposit is left; a victim takes its receipt and leaves
        return Submitted(values, bids, present, late, silent, dropped)

    def drawn(self, round_index: int) -> tuple[Counts, Flags]:
        """Return the true values and presence of a round; shills are always there and value nothing."""
        values, present = self.values.draw(self._drawn, round_index)
        present = (present | self.house) & ~self.out
        return values * (present & ~self.house)[:, :, None], present

    def claim(self, settling: Settling) -> tuple[Counts, Counts]:
        """Return what the auctioneer publishes; raise ValueError if it is not integers of the right shape."""
        seen = (settling.running, settling.bids, settling.participation, settling.allocation, settling.payment)
        for array in seen:  # an agent that wrote into them would change what it is compared with
            array.flags.writeable = False
        with _blaming(self.auctioneer):
            allocation, payment = (np.asarray(part) for part in self.auctioneer.claim(settling))
        for part, honest in ((allocation, settling.allocation), (payment, settling.payment)):
            if part.shape != honest.shape or not np.issubdtype(part.dtype, np.integer):
                raise ValueError(
                    f"{type(self.auctioneer).__name__} claims {part.dtype} of shape {part.shape}, wanted integers of "
                    f"shape {honest.shape}"
                )
        return allocation.astype(np.int64, copy=False), payment.astype(np.int64, copy=False)

    def observe(
        self, round_index: int, values: Counts, took_part: Flags, shares: Counts, payment: Counts, won: Counts
    ) -> None:
        """Show every bidder its own rows; `won` holds seats by item, -1 unsold, (lanes, items)."""
        for bidder, own in zip(self.bidders, self.seats, strict=True):
            if type(bidder).observe is not Bidder.observe:
                mine = won[:, None, :] == np.array(own)[None, :, None]
                with _blaming(bidder):
                    bidder.observe(
                        Row(round_index, values[:, own], took_part[:, own], shares[:, own], mine, payment[:, own])
                    )

    @property
    def readers(self) -> bool:
        """Whether any bidder reads audited rounds."""
        return any(type(bidder).read is not Bidder.read for bidder in self.bidders)

    def disclose(self, round_index: int, lanes: Counts, values: Counts, bids: Counts, participation: Flags) -> None:
        """Show every reader an audited round, in the lanes where it was drawn."""
        bids.flags.writeable = False  # readers share it
        for bidder, own in zip(self.bidders, self.seats, strict=True):
            if type(bidder).read is not Bidder.read:
                with _blaming(bidder):
                    bidder.read(Disclosed(round_index, lanes, values[:, own], bids, participation))

    def _checked(self, bidder: Bidder, bids: Counts, own: list[int]) -> Counts:
        bids = np.asarray(bids)
        name, wanted = type(bidder).__name__, (self.lanes, len(own), self.header.items)
        if not np.issubdtype(bids.dtype, np.integer) or bids.shape != wanted:
            raise ValueError(f"{name} bids {bids.dtype} of shape {bids.shape}, wanted integers of shape {wanted}")
        if bids.size and (bids.min() < 0 or bids.max() > self.header.bid_max):
            raise ValueError(f"{name} bids {bids.min()} to {bids.max()}, wanted 0 to {self.header.bid_max}")
        return bids


@contextmanager
def _blaming(agent: Bidder | AuctioneerAgent) -> Iterator[None]:
    """Name a user's own agent in what it raises; an error in one of ours is a defect and shows as one."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) or not type(agent).__module__.startswith(OWN_MODULE):
            raise
        raise ValueError(f"{type(agent).__name__} failed: {type(error).__name__}: {error}") from error
