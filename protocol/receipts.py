"""Judging a receipt: was the statement that it promises logged in time (spec 3.6, 3.7)?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from protocol import messages as m
from protocol.errors import BindingError, InconclusiveError, MalformedError
from protocol.keys import VerifierKey
from protocol.mailbox import forced
from protocol.session import Session
from protocol.state import Finding
from protocol.verify import PublicLog, Trust, Verdict, guard, load_public


def verify_receipts(files: Sequence[bytes], trust: Trust, folder: Path | None) -> Verdict:
    """Judge receipts and what they promise: the statement is in the log by `appear_by` (spec 3.6, 3.7).

    One receipt of the auctioneer convicts it where the statement is missing; without one, receipts of more mailboxes
    than may be faulty do.

    Args:
        files: The receipts' bytes, all for one statement; for mailboxes' receipts also the statement's own bytes.
        trust: What the verifier pins.
        folder: Public folder of the log; without it only the auctioneer's signature is checked, which is inconclusive.
    """

    def work(verdict: Verdict) -> None:
        if not files:
            raise MalformedError("no receipt was given")
        parsed = [m.Statement.decode(data.rstrip(b"\n")) for data in files]
        bodies = [(statement, statement.body) for statement in parsed]
        receipts = [(statement, body) for statement, body in bodies if isinstance(body, m.Receipt)]
        if not receipts:
            raise MalformedError(f"wanted a receipt statement, got {parsed[0].name}")
        receipt = receipts[0][1]
        if any(body.session != trust.session for _, body in receipts):
            raise BindingError("the receipt is of another session (spec 8.5)")
        if any(body.statement != receipt.statement for _, body in receipts):
            raise BindingError("the receipts are for different statements (spec 8.5)")
        if folder is None:
            receipts[0][0].verify(VerifierKey.parse(trust.auctioneer))
            verdict.trusted = True
            raise InconclusiveError("no log was given to look for the statement in (spec 3.6)")
        public = folder / "public" if (folder / "public").is_dir() else folder
        loaded = load_public(public, trust)
        session = loaded.session
        verdict.trusted = True
        verdict.checked["receipts"] = len(receipts)
        session.add_cosigned({item.cosigned for item in loaded.checkpoints})
        for index, entry in loaded.entries[1:]:
            session.apply(index, entry)
        rule, signed = "3.6", _by_auctioneer(session, receipts)
        if signed is None:
            statement = next((item for item in parsed if item.identity == receipt.statement), None)
            if statement is None:
                raise InconclusiveError(
                    "receipts of mailboxes prove only with the statement itself beside them (spec 3.7)"
                )
            if not forced(session, statement, [item.data for item, _ in receipts]):
                raise InconclusiveError("too few of the manifest's mailboxes stamped the statement in time (spec 3.7)")
            rule, signed = "3.7", receipt
        verdict.verdict = _judge_promise(session, loaded, signed)
        if verdict.verdict == "deviation":
            text = f"the statement {signed.statement[:16]}... has receipts and is not in the log in time"
            verdict.findings.append(Finding(rule, signed.round, "auctioneer", text))

    return guard(work)


def _by_auctioneer(session: Session, receipts: Sequence[tuple[m.Statement, m.Receipt]]) -> m.Receipt | None:
    """Return the first receipt that the auctioneer signed; a key that the registrar revoked proves nothing (2.10)."""
    mailboxes = {key.party for key in session.mailboxes}
    for statement, receipt in receipts:
        key = next((key for key in session.auctioneer_keys if key.party == statement.signer), None)
        if key is not None:
            statement.verify(key)
            if key.party in session.reported:
                raise InconclusiveError("the receipt is signed by a key that the registrar revoked (spec 2.10)")
            return receipt
        if statement.signer not in mailboxes:
            raise BindingError(
                "the receipt is signed by neither the auctioneer nor a mailbox of the session (spec 8.5)"
            )
    return None


def _judge_promise(session: Session, loaded: PublicLog, receipt: m.Receipt) -> str:
    """Return "holds" or "deviation": whether the log has the statement in time, as far as the checkpoints show."""
    times = [(item.checkpoint.size, item.time) for item in loaded.checkpoints]
    for index, entry in loaded.entries:
        try:
            identity = m.Statement.decode(entry).identity
        except MalformedError:
            continue  # junk in the log is its own finding, and hides no statement
        if identity != receipt.statement:
            continue
        if any(size > index and time <= receipt.appear_by for size, time in times):
            return "holds"
        if not any(size <= index and time > receipt.appear_by for size, time in times):
            raise InconclusiveError("no checkpoint at hand shows when the statement was logged (spec 3.6)")
        return "deviation"
    if not session.passed(receipt.appear_by):
        raise InconclusiveError("the receipt's deadline has not passed in this log (spec 3.6)")
    return "deviation"
