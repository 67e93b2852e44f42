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
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from credible.simulation.scenario import Scenario
from credible.simulation.setup import Rules, Secrets, draw_up
from credible.simulation.table import Kept, Table
from protocol import messages as m
from protocol.artifact import Sandbox
from protocol.encoding import canonical, decode
from protocol.errors import MalformedError
from protocol.escrow import ESCROW
from protocol.evidence import epoch_findings, recheck
from protocol.log.note import Checkpoint, Note
from protocol.log.tiles import CHECKPOINT, TILE, TileDirectory
from protocol.log.writer import Tail
from protocol.state import Finding
from protocol.storage.files import write_file
from protocol.storage.heads import HeadStore, RollbackError
from protocol.storage.vault import Vault
from protocol.verify import ARTIFACT_FILE, MANIFEST_FILE, POLICY_FILE, Head, Trust

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
    """One session on disk: `FOLDER/public`, `FOLDER/private`; `FOLDER.trust.json` and `FOLDER.heads` beside it.

    Args:
        folder: The session's folder.
        artifact: The mechanism's bytes.
        rules: What the initiator chose.
        scenario: Who plays.
        secrets: Root secret; on resume it must be the vault's.
        config: What identifies the command that made the folder; compared on resume.
        resume: Whether to go on with an existing folder.
        keep: Whether to keep the settled rounds of the session in memory, to look at them afterwards.

    Raises:
        FileExistsError: If the folder exists and `resume` is not set.
        ValueError: If on resume the folder was made with another mechanism, other rules or players.
        RollbackError: If on resume the folder is older than what was published from it.
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
        keep: bool = False,
    ) -> None:
        self._keep = keep
        self.folder, self._scenario, self._secrets = folder, scenario, secrets
        self.public = folder / "public"
        if folder.exists() and not resume:
            raise FileExistsError(f"{folder} exists; choose another folder, or resume it")
        with ExitStack() as resources:  # released if anything below refuses
            self._sandbox = resources.enter_context(Sandbox(artifact))
            draw_up(rules, self._sandbox.header, self._sandbox.summary.file_sha256, secrets)  # refuses before writing
            self._artifact = artifact
            path = vault_path(folder)
            begin = [("config", "run", config), ("secret", "root", secrets.root)]
            self._vault = resources.enter_context(Vault.create(path, begin) if not_begun(folder) else Vault(path))
            entries = self._vault.entries()
            if self._vault.record("config", "run") != config:
                raise ValueError(f"{folder} was made with other options; resume with the same ones")
            stored = ((int(size), data) for size, data in self._vault.records("checkpoint").items())
            notes = {size: Note.decode(data) for size, data in sorted(stored)}
            self.table = Table(
                rules,
                self._sandbox.header,
                self._sandbox.summary.file_sha256,
                self._sandbox,
                secrets,
                scenario.seats,
                auctioneer=scenario.auctioneer,
                kept=Kept(entries, notes),
            )
            self.manifest, self.policy = self.table.manifest, self.table.policy
            self.auctioneer, self.session = self.table.auctioneer, self.table.session
            self.summary = Summary()
            self._records: list[tuple[str, str, bytes]] = []
            self._stored, self._stored_movements, self._stored_note = len(entries), 0, max(notes, default=0)
            self._stored_tier1 = 0
            self._epoch = 0  # none before it is open
            self._history: Tail[bytes] = Tail()  # the cosigned checkpoints of the public folder, up to this size
            self._published = 0
            self._published_at = time.monotonic()
            self._tiles = TileDirectory(self.public)
            self._heads = resources.enter_context(HeadStore(heads_path(folder)))
            self._check_not_rolled_back()
            self._load_state()
            if not self.session.registration_closed:
                self.table.register()
                self._write_setup()
                self._store(durable=True)
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
        self.table.release()
        self._store(durable=True)
        self.summary.seconds = time.perf_counter() - started
        self.summary.rounds = sum(state.outcome is not None for state in session.rounds.values())
        audited = [i for e in range(manifest.epochs) if e in session.epochs for i in session.audited(e) or ()]
        self.summary.deviations_made = sum(self.auctioneer.deviated.values())
        self.summary.audited = sum(session.disclosed(index) for index in audited)
        convicted = {
            finding.round
            for state in session.epochs.values()
            for _, verdict in state.verdicts.values()
            for finding in verdict.findings
            if finding.round >= 0
        }
        self.summary.tier1, self.summary.revenue = self.table.tier1, self.table.revenue
        self.summary.deviations_found = len(convicted)
        if session.halted_epoch is not None:
            self.summary.halted_at = manifest.rounds_of(session.halted_epoch)[-1]
            self.summary.penalty = manifest.money.penalty
        return self.summary

    def _end_epoch(self, epoch: int) -> None:
        self.table.end_epoch(epoch)
        self._tell(epoch)

    def _tell(self, epoch: int) -> None:
        """Tell the players which rounds of a settled epoch are public now."""
        # what is sealed to auditors is not public (spec 7.7)
        drawn = [index for index in self.session.drawn(epoch) or () if self.session.round(index).response is not None]
        self._scenario.closed(epoch, drawn, self.session.halted_epoch == epoch)

    def _tell_again(self) -> None:
        """Play the rounds of an earlier run again for the players, who then know what they knew."""
        for epoch in range(self.manifest.epochs):
            for index in self.manifest.rounds_of(epoch):
                if index not in self.auctioneer.matrices:
                    return
                self._scenario.plan(index)
                self._scenario.settled(index, self.auctioneer.matrices[index], again=True)
            if epoch not in self.session.epochs or self.session.epoch(epoch).settlement is None:
                return
            self._tell(epoch)

    def _open_epoch(self) -> int:
        while self.session.epoch(self._epoch).settlement is not None:
            self._epoch += 1
        return self._epoch

    def _next_round(self) -> int | None:
        for index in self.manifest.rounds_of(self._open_epoch()):
            if self.session.round(index).outcome is None:
                return index
        return None

    def _play_round(self, index: int) -> None:
        self.table.play_round(index, self._scenario.plan(index))
        self._scenario.settled(index, self.auctioneer.matrices[index], again=False)
        self._records.append(("matrix", str(index), canonical(self.auctioneer.matrices[index])))
        for (_, party), data in self.auctioneer.second_bids.items():  # refused, kept as evidence (spec 3.5)
            self._records.append(("second bid", f"{index}-{party}", data))
        self.auctioneer.second_bids.clear()
        if self.auctioneer.deviated[index]:
            self._records.append(("deviated", str(index), b""))
        self.summary.played_now += 1

    # --- keeping -----------------------------------------------------------------------------------------------------

    def _store(self, *, durable: bool = False) -> None:
        """Make the unit durable in the vault; bring the public folder up to it twice a second, and at the end."""
        log, table = self.auctioneer.log, self.table
        for number, (key, amounts) in enumerate(table.movements[self._stored_movements :], self._stored_movements):
            self._records.append(("movement", f"{number:010d}", msgspec.json.encode(Movement(key, amounts))))
        for number, finding in enumerate(table.tier1[self._stored_tier1 :], self._stored_tier1):
            self._records.append(("tier1", f"{number:010d}", msgspec.json.encode(finding)))
        self._stored_tier1 = len(table.tier1)
        for size in self._notes_after(self._stored_note):
            self._records.append(("checkpoint", str(size), table.notes[size].encode()))
            self._stored_note = size
        self._vault.commit(self._stored, log.entries[self._stored :], self._records)
        self._stored, self._stored_movements = len(log.entries), len(table.movements)
        self._records = []
        if durable or time.monotonic() - self._published_at > PUBLISH_SECONDS:
            self._publish(durable=durable)
        if not self._keep:
            self.auctioneer.forget()

    def _notes_after(self, size: int) -> list[int]:
        """Return the sizes of the cosigned checkpoints above a size; they were added in rising order."""
        return list(takewhile(lambda item: item > size, reversed(self.table.notes)))[::-1]

    def _publish(self, *, durable: bool) -> None:
        log, table = self.auctioneer.log, self.table
        note = table.notes.get(log.tree.size)
        if note is None:
            return  # the last unit ends without a checkpoint of its own; the next one publishes it
        for size in self._notes_after(self._published):
            self._history.append(table.notes[size].encode())
            self._published = size
        head = Checkpoint.parse(note.text)  # what was shown to anybody is remembered first (spec 4.15)
        self._heads.swap(self._heads.last(head.origin), head, durable=durable)
        self._tiles.write(log.tree, log.entries, note, durable=durable, history=self._history)
        trust = Trust(
            session=self.session.id,
            auctioneer=self.manifest.auctioneer,
            policy=self.policy.digest,
            checkpoint=Head(size=log.tree.size, root=log.tree.root().hex()),
        )
        write_file(trust_path(self.folder), trust.encode(), durable=durable)
        if not self._keep:  # the last tile, not full yet, is written again
            self._history.forget(len(self._history) // TILE * TILE)
            table.forget(log.tree.size // TILE * TILE, log.tree.size)
        self._published_at = time.monotonic()

    def _check_not_rolled_back(self) -> None:
        """Refuse to go on with a folder that is older than what was published from it (spec 4.15)."""
        log, last = self.auctioneer.log, self._heads.last(self.session.log_key.name)
        if last is None:
            if (self.public / CHECKPOINT).exists():
                raise RollbackError(
                    f"{heads_path(self.folder)} is missing: it tells whether {self.folder} is the latest"
                )
        elif last.size > log.tree.size or log.tree.root(last.size) != last.root:
            raise RollbackError(
                f"{self.folder} holds {log.tree.size} entries, a checkpoint of {last.size} was published: restored "
                "from a backup, or another session (spec 4.15)"
            )

    def _write_setup(self) -> None:
        write_file(self.public / MANIFEST_FILE, canonical(self.manifest) + b"\n")
        write_file(self.public / POLICY_FILE, self.policy.text)
        write_file(self.public / ARTIFACT_FILE, self._artifact)
        for number in range(len(self.manifest.auditor_seals)):
            key = self._secrets.auditor_seal(number).private_bytes_raw().hex()
            write_file(auditor_key_path(self.folder, number), f"{key}\n".encode("ascii"), mode=0o600)

    def _load_state(self) -> None:
        for name, data in self._vault.records("matrix").items():
            self.auctioneer.matrices[int(name)] = decode(data, m.MatrixBody, limit=1 << 24)
        for name in self._vault.records("deviated"):
            self.auctioneer.deviated[int(name)] = True
        for _, data in sorted(self._vault.records("tier1").items()):
            self.table.tier1.append(msgspec.json.decode(data, type=Finding))
        self._stored_tier1 = len(self.table.tier1)
        for _, data in sorted(self._vault.records("movement").items()):
            movement = msgspec.json.decode(data, type=Movement)
            self.table.move(movement.key, movement.amounts)
            if movement.key.startswith("round-"):
                self.table.revenue += movement.amounts[ESCROW]
        self._stored_movements = len(self.table.movements)
        if self._stored:  # what an interruption left unpublished
            self._write_setup()
        self._tell_again()

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


def auditor_key_path(folder: Path, number: int) -> Path:
    """Return where the key that opens what is sealed to an auditor is kept (spec 7.7)."""
    return folder / "private" / f"auditor-{number}.key"


def heads_path(folder: Path) -> Path:
    """Return where the last published checkpoint is remembered: beside the folder, never restored with it."""
    return folder.with_name(folder.name + ".heads")


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
