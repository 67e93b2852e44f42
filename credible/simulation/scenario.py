"""What a session is played with: who bids what, when, and how the auctioneer behaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from protocol.auctioneer import Auctioneer


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """One round as the bidders play it.

    Attributes:
        bids: Bids by seat, one integer per item in grid units; a seat left out is absent.
        silent: Seats that commit and never open.
        context: Public integers of the round, if the mechanism takes any.
        label: A text for people, in the public context.
    """

    bids: Mapping[int, list[int]]
    silent: frozenset[int] = field(default_factory=frozenset)
    context: list[int] = field(default_factory=list)
    label: str = ""


class Scenario(Protocol):
    """A session's players; a pure function of the round, so that a resumed run goes on as it would have."""

    @property
    def seats(self) -> list[str]:
        """Names of the bidders in seat order."""
        ...

    def plan(self, round_index: int) -> RoundPlan:
        """Return what the bidders do in a round."""
        ...

    @property
    def auctioneer(self) -> type[Auctioneer]:
        """The auctioneer's behaviour."""
        ...
