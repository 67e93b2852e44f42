"""The repeated market: all roles in one process, every message real, every finished round durable.

A round or the end of an epoch is one unit: it is played in memory, then stored in the vault in one durable
transaction, then the public folder is brought up to it. After an interruption the units in the vault stand and the
rest is played again, with the same bytes, since everything derives from the root secret and the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from credible.simulation.scenario import Scenario
from credible.simulation.setup import Rules, Secrets, draw_up
from protocol import messages as m
from protocol.artifact import Sandbox
from protocol.auctioneer import RefusedError
from protocol.auditor import Arbiter, Auditor
from protocol.bidder import Bidder
from protocol.encoding import canonical, decode
from protocol.errors import MalformedError
from protocol.evidence import epoch_findings, recheck
from protocol.log.note import Checkpoint, Note, cosignature_times
from protocol.log.tiles import TileDirectory
from protocol.penalties import ESCROW, AccountBook
from protocol.state import Cosigned, Finding
from protocol.storage.files import write_file
from protocol.storage.vault import Vault
from protocol.verify import ARTIFACT_FILE, CHECKPOINTS, MANIFEST_FILE, POLICY_FILE, Head, Trust
from protocol.witness import Witness

PUBLISH_SECONDS: Final = 0.5
LAST_SECONDS: Final = 1  # a checkpoint is cosigned this long before its deadline


class Movement(msgspec.Struct, frozen=True):
    """One movement of the account book, as stored."""

    key: str
    amounts: dict[str, int]


@dataclass(slots=True)
class Summary:
    """What a run did.

    Attributes:
        rounds: Rounds played.
        audited: Rounds re-executed.
        deviations_made: Rounds whose published result is not the mechanism's.
        deviations_found: Rounds that an audit convicts.
        halted_at: Last round before the halt; None if the session ran to its end.
        penalty: What the auctioneer forfeited, fine units.
        revenue: Charges of all rounds, fine units.
        tier1: What bidders found without any audit.
        seconds: Time spent playing in this run.
        played_now: Rounds played in this run, without those of a resumed one.
    """

    rounds: int = 0
    audited: int = 0
    deviations_made: int = 0
    deviations_found: int = 0
    halted_at: int | None = None
    penalty: int = 0
    revenue: int = 0
    tier1: list[Finding] = field(default_factory=list)
    seconds: float = 0.0
    played_now: int = 0


class Market:
    """One session on disk: `FOLDER/public`, `FOLDER/private`, and `FOLDER.trust.json` beside it.

    Args:
        folder: The session's folder.
        artifact: The mechanism's bytes.
        rules: What the initiator chose.
        scenario: Who plays.
        secrets: Root secret; on resume it must be the vault's.
        config: What identifies the command that made the folder; compared on resume.
        resume: Whether to go on with an existing folder.

    Raises:
        FileExistsError: If the folder exists and `resume` is not set.
        ValueError: If on resume the folder was made with another mechanism, other rules or players.
    """

    def __init__(
        self,
        folder: Path,
        artifact: bytes,
        rules: Rules,
        scenario: Scenario,
        secrets: Secrets,
        *,
        config: bytes,
        resume: bool = False,
    ) -> None:
        self.folder, self._scenario, self._secrets = folder, scenario, secrets
        self.public = folder / "public"
        if folder.exists() and not resume:
            raise FileExistsError(f"{folder} exists; choose another folder, or resume it")
        with ExitStack() as resources:  # released if anything below refuses
            self._sandbox = resources.enter_context(Sandbox(artifact))
            self.manifest, self.policy = draw_up(
                rules, self._sandbox.header, self._sandbox.summary.file_sha256, secrets
            )
            self._artifact = artifact
            self._book = AccountBook()
            self._movements: list[Movement] = []
            self._records: list[tuple[str, str, bytes]] = []
            self._notes: dict[int, Note] = {}
            self.summary = Summary()
            path = vault_path(folder)
            begin = [("config", "run", config), ("secret", "root", secrets.root)]
            self._vault = resources.enter_context(Vault.create(path, begin) if not_begun(folder) else Vault(path))
            entries = self._vault.entries()
            if self._vault.record("config", "run") != config:
                raise ValueError(f"{folder} was made with other options; resume with the same ones")
            self._load_notes()
            self.auctioneer = scenario.auctioneer(
                secrets.auctioneer(), self.manifest, self.policy, self._sandbox, entries, self._cosigned()
            )
            self._stored = len(entries)
            self._stored_movements = 0
            self._published: set[int] = set()  # sizes of the checkpoints in the public folder
            self._published_at = time.monotonic()
            self._tiles = TileDirectory(self.public)
            self._load_state()
            self.session = self.auctioneer.session
            log_key = secrets.auctioneer().log().verifier
            self._witness = Witness(secrets.witness(), [log_key], self._heads())
            self._auditor = Auditor(secrets.auditor(), self.session, self._sandbox)
            self._arbiter = Arbiter(secrets.arbiter(), self.session)
            self._bidders = [self._bidder(seat, name) for seat, name in enumerate(scenario.seats)]
            if not self.session.registration_closed:
                self._register()
            self._resources = resources.pop_all()

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self, progress: Callable[[int], None] = lambda done: None) -> Summary:
        """Play until the session is complete and return what happened."""
        manifest, session = self.manifest, self.session
        started = time.perf_counter()
        while not session.complete:
            index = self._next_round()
            if index is not None:
                self._play_round(index)
                self._store()
                progress(index + 1)
                continue
            self._end_epoch(self._open_epoch())
            self._store()
        self._end_session()
        self._store(durable=True)
        self.summary.seconds = time.perf_counter() - started
        self.summary.rounds = sum(state.outcome is not None for state in session.rounds.values())
        audited = [i for e in range(manifest.epochs) if e in session.epochs for i in session.drawn(e) or ()]
        self.summary.deviations_made = sum(self.auctioneer.deviated.values())
        self.summary.audited = sum(session.round(index).response is not None for index in audited)
        convicted = {
            finding.round
            for state in session.epochs.values()
            if state.verdict is not None
            for finding in state.verdict.findings
            if finding.round >= 0
        }
        self.summary.deviations_found = len(convicted)
        if session.halted_epoch is not None:
            self.summary.halted_at = manifest.rounds_of(session.halted_epoch)[-1]
            self.summary.penalty = manifest.money.penalty
        return self.summary

    def _open_epoch(self) -> int:
        return next(e for e in range(self.manifest.epochs) if self.session.epoch(e).settlement is None)

    def _next_round(self) -> int | None:
        for index in self.manifest.rounds_of(self._open_epoch()):
            if self.session.round(index).outcome is None:
                return index
        return None

    def _cosign(self, at: int) -> None:
        note = self.auctioneer.checkpoint()
        size = self.auctioneer.log.tree.size
        last = self._witness.heads.get(self._origin)
        old = last.size if last else 0
        if old == size and size in self._notes:
            return  # nothing was logged since: the last checkpoint serves (spec 4.15)
        proof = self.auctioneer.log.tree.consistency(old, size) if old else []
        signature = self._witness.add_checkpoint(old, proof, note, at)
        self._notes[size] = self.auctioneer.cosigned(note, [signature])
        self._records.append(("checkpoint", str(size), self._notes[size].encode()))

    @property
    def _origin(self) -> str:
        return self.session.log_key.name

    def _register(self) -> None:
        start = self.manifest.start
        money = self.manifest.money
        self._move(
            "deposit-auctioneer", {AccountBook.OUTSIDE: -money.deposit, self.session.auctioneer.party: money.deposit}
        )
        for bidder in self._bidders:
            self.auctioneer.receive(bidder.registration(), start - 200)
            self._move(
                f"deposit-{bidder.party}",
                {AccountBook.OUTSIDE: -money.bidder_deposit, bidder.party: money.bidder_deposit},
            )
        self._cosign(start - 100)
        self.auctioneer.close_registration()
        self._write_setup()
        self._store(durable=True)

    def _play_round(self, index: int) -> None:
        session, manifest = self.session, self.manifest
        plan = self._scenario.plan(index)
        start = manifest.round_time(index)
        if manifest.context:
            self.auctioneer.announce(index, plan.context, plan.label)
        playing = [self._bidders[seat] for seat in sorted(plan.bids)]
        for bidder in playing:
            sent = bidder.presence(index)
            bidder.check_receipt(self.auctioneer.receive(sent, start + 10), sent)
        bidding: list[int] = []
        for seat in sorted(plan.bids):
            sent = self._bidders[seat].bid(index, list(plan.bids[seat]))
            try:
                receipt = self.auctioneer.receive(sent, start + 60)
            except RefusedError:  # its deposit covers no further commitment: it is out (spec 9.9)
                continue
            self._bidders[seat].check_receipt(receipt, sent)
            bidding.append(seat)
        self._cosign(session.deadline(index, "close") - LAST_SECONDS)
        self.auctioneer.close(index)
        for seat in bidding:
            bidder = self._bidders[seat]
            self.summary.tier1 += bidder.check_close(index)
            if seat not in plan.silent:
                sent = bidder.opening(index)
                at = session.deadline(index, "opening") - 60
                bidder.check_receipt(self.auctioneer.receive(sent, at), sent)
        self._cosign(session.deadline(index, "opening") - LAST_SECONDS)
        rows = {row.party: row.data for row in self.auctioneer.settle(index)}
        self._cosign(session.deadline(index, "outcome") - LAST_SECONDS)
        for bidder in (self._bidders[seat] for seat in bidding):
            findings, row = bidder.check_row(index, rows.get(bidder.party))
            self.summary.tier1 += findings
            if row is not None and row.charge:
                self._move(f"round-{index}-{bidder.party}", {AccountBook.OUTSIDE: -row.charge, ESCROW: row.charge})
                self.summary.revenue += row.charge
        self._records.append(("matrix", str(index), canonical(self.auctioneer.matrices[index])))
        if self.auctioneer.deviated[index]:
            self._records.append(("deviated", str(index), b""))
        self.summary.played_now += 1

    def _end_epoch(self, epoch: int) -> None:
        """Contributions, challenge, responses, verdict, settlement (spec 6.6)."""
        session, auctioneer = self.session, self.auctioneer
        self._cosign(session.epoch_deadline(epoch, "root") - LAST_SECONDS)
        at = session.epoch_deadline(epoch, "contribution") - LAST_SECONDS
        auctioneer.fix_epoch_root(epoch)
        auctioneer.contribute(epoch)
        present = session.present(epoch)
        for bidder in self._bidders:
            if bidder.party in present:
                auctioneer.receive(bidder.contribution(epoch), at)
        self._cosign(at)
        auctioneer.close_contributions(epoch)
        auctioneer.publish(self._auditor.challenge(epoch))
        auctioneer.respond(epoch)
        self._cosign(session.epoch_deadline(epoch, "response") - LAST_SECONDS)
        verdict, _ = self._auditor.verdict(epoch)
        auctioneer.publish(verdict)
        settlement, amounts = self._arbiter.settle(epoch)
        auctioneer.publish(settlement)
        state = session.epoch(epoch)
        cause = state.settlement.verdict if state.settlement else ""
        self._move(f"settlement-{cause}", amounts)
        held = self._book.balances.get(ESCROW, 0)
        self._move(f"revenue-{cause}", {ESCROW: -held, AccountBook.OUTSIDE: held})
        self._cosign(session.epoch_deadline(epoch, "verdict") - LAST_SECONDS)

    def _end_session(self) -> None:
        """Release what is left of the deposits (spec 6.7)."""
        for account, amount in list(self._book.balances.items()):
            if account not in (AccountBook.OUTSIDE, ESCROW) and amount:
                self._move(f"release-{account}", {account: -amount, AccountBook.OUTSIDE: amount})
        if self._book.total() != 0:
            raise RuntimeError("the account book does not conserve money")

    def _move(self, key: str, amounts: dict[str, int]) -> None:
        if self._book.move(key, amounts):
            self._movements.append(Movement(key, amounts))

    # --- keeping -----------------------------------------------------------------------------------------------------

    def _store(self, *, durable: bool = False) -> None:
        """Make the unit durable in the vault; bring the public folder up to it twice a second, and at the end."""
        log = self.auctioneer.log
        for offset, movement in enumerate(self._movements[self._stored_movements :]):
            number = self._stored_movements + offset
            self._records.append(("movement", f"{number:010d}", msgspec.json.encode(movement)))
        self._vault.commit(self._stored, log.entries[self._stored :], self._records)
        self._stored, self._stored_movements = len(log.entries), len(self._movements)
        self._records = []
        if durable or time.monotonic() - self._published_at > PUBLISH_SECONDS:
            self._publish(durable=durable)

    def _publish(self, *, durable: bool) -> None:
        log = self.auctioneer.log
        note = self._notes.get(log.tree.size)
        if note is None:
            return  # the last unit ends without a checkpoint of its own; the next one publishes it
        for size in sorted(set(self._notes) - self._published):
            write_file(self.public / CHECKPOINTS / str(size), self._notes[size].encode(), durable=False)
            self._published.add(size)
        self._tiles.write(log.tree, log.entries, note, durable=durable)
        trust = Trust(
            session=self.session.id,
            auctioneer=self.manifest.auctioneer,
            policy=self.policy.digest,
            checkpoint=Head(size=log.tree.size, root=log.tree.root().hex()),
        )
        write_file(trust_path(self.folder), trust.encode(), durable=durable)
        self._published_at = time.monotonic()

    def _write_setup(self) -> None:
        write_file(self.public / MANIFEST_FILE, canonical(self.manifest) + b"\n")
        write_file(self.public / POLICY_FILE, self.policy.text)
        write_file(self.public / ARTIFACT_FILE, self._artifact)

    def _load_notes(self) -> None:
        for size, data in self._vault.records("checkpoint").items():
            self._notes[int(size)] = Note.decode(data)

    def _cosigned(self) -> list[Cosigned]:
        result = []
        witnesses = tuple(self.policy.witnesses.values())
        for size, note in sorted(self._notes.items()):
            when = self.policy.quorum_time(cosignature_times(note, witnesses))
            if when is not None:
                result.append(Cosigned(size, Checkpoint.parse(note.text).root.hex(), when))
        return result

    def _heads(self) -> dict[str, Checkpoint]:
        if not self._notes:
            return {}
        head = Checkpoint.parse(self._notes[max(self._notes)].text)
        return {head.origin: head}

    def _load_state(self) -> None:
        for name, data in self._vault.records("matrix").items():
            self.auctioneer.matrices[int(name)] = decode(data, m.MatrixBody, limit=1 << 24)
        for name in self._vault.records("deviated"):
            self.auctioneer.deviated[int(name)] = True
        for _, data in sorted(self._vault.records("movement").items()):
            movement = msgspec.json.decode(data, type=Movement)
            self._book.move(movement.key, movement.amounts)
            self._movements.append(movement)
            if movement.key.startswith("round-"):
                self.summary.revenue += movement.amounts[ESCROW]
        self._stored_movements = len(self._movements)
        if self._stored:  # what an interruption left unpublished
            self._write_setup()

    def _bidder(self, seat: int, name: str) -> Bidder:
        keys = self._secrets.bidder(seat, name)
        state = self.session.bidders.get(keys.signing().party)
        last = (state.last_seq, state.last_bid) if state is not None else None
        return Bidder(keys, self.session, last) if last else Bidder(keys, self.session)

    def audit_findings(self) -> list[Finding]:
        """Return everything that convicts in the disclosed rounds, recomputed from the log."""
        drawn = [i for e in sorted(self.session.epochs) for i in self.session.drawn(e) or ()]
        rechecked, _ = recheck(self.session, drawn, self._sandbox)
        return [f for e in range(self.manifest.epochs) for f in epoch_findings(self.session, e, rechecked)]

    def close(self) -> None:
        """Release the vault and the child process."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def vault_path(folder: Path) -> Path:
    """Return where a session keeps its private vault."""
    return folder / "private" / "vault.db"


def trust_path(folder: Path) -> Path:
    """Return where the trust file of a session is written: beside it, not inside."""
    return folder.with_name(folder.name + ".trust.json")


def not_begun(folder: Path) -> bool:
    """Return whether a folder, existing or not, has neither a vault nor anything public."""
    return not vault_path(folder).exists() and not (folder / "public").exists()


def stored_root(folder: Path) -> bytes | None:
    """Return the root secret a session was begun with; None if an interruption came before that.

    Raises:
        FileNotFoundError: If something was published but the vault is missing.
        MalformedError: If the vault is damaged or holds no root secret.
    """
    if not_begun(folder):
        return None
    with Vault(vault_path(folder)) as vault:
        root = vault.record("secret", "root")
    if root is None:
        raise MalformedError(f"{vault_path(folder)}: holds no root secret, so the session cannot go on")
    return root
