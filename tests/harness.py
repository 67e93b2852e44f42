"""A session in memory, step by step, for tests that bend one step; the artifact runs in process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from credible.simulation.setup import Rules, Secrets, draw_up
from protocol.artifact.engine import Engine
from protocol.artifact.static import CheckedArtifact
from protocol.auctioneer import Auctioneer, RefusedError
from protocol.auditor import Arbiter, Auditor
from protocol.bidder import Bidder
from protocol.encoding import Message
from protocol.log.note import Note
from protocol.session import Session
from protocol.state import Finding
from protocol.witness import Witness


class Table:
    """All roles of one session around one table."""

    def __init__(
        self,
        artifact: CheckedArtifact,
        *,
        rounds: int = 2,
        auctioneer: type[Auctioneer] = Auctioneer,
        seed: int = 5,
        charge: str = "expected",
        bidders: int | None = None,
    ) -> None:
        self.secrets = Secrets.seeded(seed)
        self.engine = Engine(artifact.data)
        rules = Rules("published", rounds, k=rounds, charge=charge, seeded=True)
        self.manifest, self.policy = draw_up(rules, artifact.header, artifact.file_sha256, self.secrets)
        self.auctioneer = auctioneer(self.secrets.auctioneer(), self.manifest, self.policy, self.engine)
        self.session = self.auctioneer.session
        log_key = self.secrets.auctioneer().log().verifier
        self.witness = Witness(self.secrets.witness(), [log_key])
        self.auditor = Auditor(self.secrets.auditor(), self.session, self.engine)
        self.arbiter = Arbiter(self.secrets.arbiter(), self.session)
        self.notes: dict[int, Note] = {}
        count = artifact.header.bidders if bidders is None else bidders
        self.bidders = [Bidder(self.secrets.bidder(s, f"bidder-{s}"), self.session) for s in range(count)]
        for bidder in self.bidders:
            self.auctioneer.receive(bidder.registration(), 0)
        self.cosign(self.manifest.start - 100)
        self.auctioneer.close_registration()
        self.tier1: list[Finding] = []
        self.out: set[int] = set()

    def cosign(self, at: int) -> None:
        """Put the log before the witness."""
        note = self.auctioneer.checkpoint()
        tree = self.auctioneer.log.tree
        last = self.witness.heads.get(self.session.log_key.name)
        old = last.size if last else 0
        signature = self.witness.add_checkpoint(old, tree.consistency(old) if old else [], note, at)
        self.notes[tree.size] = self.auctioneer.cosigned(note, [signature])

    def bid(self, index: int, bids: Mapping[int, list[int]]) -> None:
        """Presence and bids of a round, then its close."""
        for seat in bids:
            self.auctioneer.receive(self.bidders[seat].presence(index), 0)
        for seat, row in bids.items():
            try:
                self.auctioneer.receive(self.bidders[seat].bid(index, list(row)), 0)
            except RefusedError:  # its deposit covers no further commitment
                self.out.add(seat)
        self.cosign(self.session.deadline(index, "close") - 1)
        self.auctioneer.close(index)

    def open(self, index: int, seats: Iterable[int]) -> None:
        """Openings of some seats, then the opening deadline."""
        for seat in seats:
            self.auctioneer.receive(self.bidders[seat].opening(index), 0)
        self.cosign(self.session.deadline(index, "opening") - 1)

    def settle(self, index: int) -> None:
        """Outcome, rows, and every bidder's own check."""
        rows = {row.party: row.data for row in self.auctioneer.settle(index)}
        self.cosign(self.session.deadline(index, "outcome") - 1)
        for bidder in self.bidders:
            if self.session.bidders[bidder.party].seat in self.out:
                continue
            self.tier1 += bidder.check_close(index)
            self.tier1 += bidder.check_row(index, rows.get(bidder.party))[0]

    def play(self, index: int, bids: Mapping[int, list[int]], silent: Iterable[int] = ()) -> None:
        """A whole round."""
        self.bid(index, bids)
        self.open(index, [seat for seat in bids if seat not in set(silent) | self.out])
        self.settle(index)

    def end(self) -> list[Finding]:
        """Contributions, challenge, responses, verdict, settlement; return the auditor's findings."""
        at = self.session.epoch_deadline(0, "contribution") - 1
        self.auctioneer.fix_epoch_root(0)
        self.auctioneer.contribute(0)
        present = self.session.present(0)
        for bidder in self.bidders:
            if bidder.party in present:
                self.auctioneer.receive(bidder.contribution(0), at)
        self.cosign(at)
        self.auctioneer.close_contributions(0)
        self.auctioneer.publish(self.auditor.challenge(0))
        self.auctioneer.respond(0)
        self.cosign(self.session.epoch_deadline(0, "response") - 1)
        verdict, findings = self.auditor.verdict(0)
        self.auctioneer.publish(verdict)
        settlement, _ = self.arbiter.settle(0)
        self.auctioneer.publish(settlement)
        self.cosign(self.session.epoch_deadline(0, "verdict") - 1)
        return findings

    def read_again(self) -> Session:
        """Return what a newcomer reads from the log."""
        fresh = Session(self.auctioneer.log.entries[0])
        fresh.add_cosigned(self.session._cosigned)
        for index, entry in enumerate(self.auctioneer.log.entries[1:], 1):
            fresh.apply(index, entry)
        return fresh

    def log_own(self, body: Message) -> None:
        """Let the auctioneer log any statement of its own."""
        self.auctioneer._put(body)


def rules_of(findings: Iterable[Finding], party: str = "auctioneer") -> set[str]:
    """Return the rules that a party broke."""
    return {finding.rule for finding in findings if finding.party == party}
