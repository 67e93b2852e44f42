"""A session in memory, step by step, for tests that bend one step; the artifact runs in process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from credible.simulation.scenario import RoundPlan
from credible.simulation.setup import Rules, Secrets
from credible.simulation.table import Table as Seats
from protocol.artifact.engine import Engine
from protocol.artifact.static import CheckedArtifact
from protocol.auctioneer import Auctioneer
from protocol.encoding import Message
from protocol.state import Finding


class Table(Seats):
    """All roles of one session of one epoch, every round of which is audited."""

    def __init__(
        self,
        artifact: CheckedArtifact,
        *,
        rounds: int = 2,
        auctioneer: type[Auctioneer] = Auctioneer,
        seed: int = 5,
        charge: str = "expected",
        bidders: int | None = None,
        beacons: Mapping[int, bytes] | None = None,
        **rules: Any,
    ) -> None:
        self.engine = Engine(artifact.data)
        count = artifact.header.bidders if bidders is None else bidders
        chosen: dict[str, Any] = {"preset": "published", "rounds": rounds, "k": rounds, "charge": charge, **rules}
        super().__init__(
            Rules(seeded=True, **chosen),
            artifact.header,
            artifact.file_sha256,
            self.engine,
            Secrets.seeded(seed),
            [f"bidder-{seat}" for seat in range(count)],
            auctioneer=auctioneer,
            beacons=beacons,
        )
        self.witness, self.auditor = self.witnesses[0], self.auditors[0]
        self.register()

    def bid(self, index: int, bids: Mapping[int, list[int]]) -> None:
        """Presence and bids of a round, then its close."""
        self.take_bids(index, RoundPlan(bids))

    def open(self, index: int, seats: Iterable[int]) -> None:
        """Openings of some seats, then the opening deadline."""
        self.take_openings(index, [seat for seat in seats if seat not in self.out])

    def settle(self, index: int) -> None:
        """Outcome, rows, and every bidder's own check."""
        self.clear(index)

    def play(self, index: int, bids: Mapping[int, list[int]], silent: Iterable[int] = ()) -> None:
        """A whole round."""
        self.bid(index, bids)
        self.open(index, [seat for seat in bids if seat not in set(silent)])
        self.settle(index)

    def end(self, epoch: int = 0) -> list[Finding]:
        """Contributions, challenge, responses, verdict, settlement; return the auditor's findings."""
        return self.end_epoch(epoch)

    def log_own(self, body: Message) -> None:
        """Let the auctioneer log any statement of its own."""
        self.auctioneer._put(body)


def rules_of(findings: Iterable[Finding], party: str = "auctioneer") -> set[str]:
    """Return the rules that a party broke."""
    return {finding.rule for finding in findings if finding.party == party}
