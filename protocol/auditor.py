"""An auditor: names the drawn rounds, re-executes them, signs a verdict that anybody can recompute (spec 6.6, 7)."""

from __future__ import annotations

from protocol import messages as m
from protocol.auctioneer import Runner
from protocol.encoding import hash_of
from protocol.errors import InconclusiveError
from protocol.evidence import bundle_hash, epoch_findings, recheck
from protocol.keys import SigningKey
from protocol.penalties import epoch_amounts
from protocol.session import Session
from protocol.state import DEVIATION, HOLDS, Finding

MAX_FINDINGS = 60  # listed in a verdict; the count is of all


class Auditor:
    """The state machine of one auditor; it reads the log as a `Session` and trusts nothing else.

    Args:
        key: Its signing key, named by the manifest.
        session: The log as it sees it.
        runner: Executes the artifact whose digest the manifest pins.
    """

    def __init__(self, key: SigningKey, session: Session, runner: Runner) -> None:
        self._key, self._session, self._runner = key, session, runner

    def challenge(self, epoch: int) -> bytes:
        """Return the statement that names the drawn rounds (spec 6.6, E2).

        Raises:
            InconclusiveError: If the epoch's seed is not known yet.
        """
        root, drawn = self._session.epoch(epoch).root, self._session.drawn(epoch)
        if root is None or drawn is None:
            raise InconclusiveError(f"the audit seed of epoch {epoch} is not known yet (spec 5.5)")
        body = m.Challenge(session=self._session.id, epoch=epoch, size=root.size, root=root.root, rounds=drawn)
        return m.sign_statement(body, self._key)

    def verdict(self, epoch: int) -> tuple[bytes, list[Finding]]:
        """Re-check the drawn rounds of an epoch; return the signed verdict and its findings (spec 6.6, E4).

        Raises:
            InconclusiveError: If the draw is not known, or a response is missing and its deadline has not passed.
        """
        session = self._session
        drawn = session.drawn(epoch)
        if drawn is None:
            if not session.passed(session.epoch_deadline(epoch, "response")):
                raise InconclusiveError(f"the audit seed of epoch {epoch} is not known yet (spec 5.5)")
            drawn = []  # the auctioneer kept its contribution back: that is the finding (spec 5.6)
        undisclosed = [index for index in drawn if session.round(index).response is None]
        if undisclosed and not session.passed(session.epoch_deadline(epoch, "response")):
            raise InconclusiveError(f"round {undisclosed[0]} may still be disclosed (spec 6.6)")
        rechecked, _ = recheck(session, drawn, self._runner)
        findings = epoch_findings(session, epoch, rechecked)
        body = m.VerdictStatement(
            session=session.id,
            epoch=epoch,
            rounds=drawn,
            result=DEVIATION if findings else HOLDS,
            findings=[m.FindingBody(rule=f.rule, round=f.round, text=f.text[:200]) for f in findings[:MAX_FINDINGS]],
            findings_count=len(findings),
            bundle=bundle_hash(session, epoch),
        )
        return m.sign_statement(body, self._key), findings


class Arbiter:
    """Holds the escrow and executes verdicts (spec 6.6 E5, 9.14)."""

    def __init__(self, key: SigningKey, session: Session) -> None:
        self._key, self._session = key, session

    def settle(self, epoch: int) -> tuple[bytes, dict[str, int]]:
        """Return the settlement of an epoch, or the halt after a deviation, and its movements by account.

        Raises:
            InconclusiveError: If no verdict is logged yet.
        """
        session = self._session
        verdict = session.epoch(epoch).verdict
        if verdict is None:
            raise InconclusiveError(f"no verdict on epoch {epoch} yet (spec 6.6)")
        halt = verdict.result == DEVIATION
        penalty = session.manifest.money.penalty if halt else 0
        amounts = epoch_amounts(session.auctioneer.party, penalty, session.forfeits(epoch))
        kind = m.Halt if halt else m.Settlement
        body = kind(
            session=session.id,
            epoch=epoch,
            verdict=hash_of("verdict", verdict).hex(),
            amounts=[m.Amount(account=account, amount=amount) for account, amount in amounts.items()],
        )
        return m.sign_statement(body, self._key), amounts
