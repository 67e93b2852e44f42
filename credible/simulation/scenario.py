"""What a session is played with: who bids what, when, and how the auctioneer behaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from protocol.auctioneer import Auctioneer
from protocol.messages import MatrixBody


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """One round as the bidders play it.

    Attributes:
        bids: Bids by seat, one integer per item in grid units; a seat left out is absent.
        silent: Seats that commit and never open.
        late: Seats whose bid comes after the deadline.
        context: Public integers of the round, if the mechanism takes any.
        label: A text for people, in the public context.
    """

    bids: Mapping[int, list[int]]
    silent: frozenset[int] = field(default_factory=frozenset)
    late: frozenset[int] = field(default_factory=frozenset)
    context: list[int] = field(default_factory=list)
    label: str = ""


class Scenario(Protocol):
    """A session's players; what they do depends on what they were told, so that a resumed run goes on as it would have.

    On resume the rounds that were played are planned and told again, in order.
    """

    @property
    def seats(self) -> list[str]:
        """Names of the bidders in seat order."""
        ...

    def plan(self, round_index: int) -> RoundPlan:
        """Return what the bidders do in a round."""
        ...

    def settled(self, round_index: int, matrix: MatrixBody, *, again: bool) -> None:
        """Hear the result of a round that was planned; `again` if a resumed run tells it."""
        ...

    def closed(self, epoch: int, disclosed: Sequence[int], halted: bool) -> None:
        """Hear which rounds of an epoch were audited and are public, and whether the session was halted."""
        ...

    @property
    def auctioneer(self) -> type[Auctioneer]:
        """The auctioneer's behaviour."""
        ...
