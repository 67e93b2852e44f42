"""Auditors and the arbiter: who looks at drawn rounds, and who holds the money (spec 6.6, 7, 9.14)."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol import messages as m
from protocol.artifact import Runner
from protocol.encoding import hash_of
from protocol.errors import InconclusiveError, ProtocolError
from protocol.evidence import assess, bundle_hash, check_sealed, epoch_findings, recheck
from protocol.keys import SigningKey
from protocol.outcomes import unseal_response
from protocol.randomness.tickets import by_ticket
from protocol.session import Session
from protocol.state import DEVIATION, HOLDS, Finding

MAX_FINDINGS = 60  # listed in a verdict; the count is of all


class Auditor:
    """The state machine of one auditor; it reads the log as a `Session` and trusts nothing else.

    Args:
        key: Its signing key, named by the manifest.
        session: The log as it sees it.
        runner: Executes the artifact whose digest the manifest pins.
        seal_key: Its X25519 key, where responses are sealed to auditors (spec 7.7).
    """

    def __init__(
        self, key: SigningKey, session: Session, runner: Runner, seal_key: X25519PrivateKey | None = None
    ) -> None:
        self._key, self._session, self._runner, self._seal_key = key, session, runner, seal_key
        self.party = key.party

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

    def escalate(self, epoch: int, count: int) -> bytes:
        """Return the statement that asks for the first `count` rounds of the epoch in ticket order (spec 7.8).

        Raises:
            InconclusiveError: If the epoch's seed is not known yet.
        """
        seed = self._session.seed(epoch)
        if seed is None:
            raise InconclusiveError(f"the audit seed of epoch {epoch} is not known yet (spec 5.5)")
        rounds = by_ticket(seed, self._session.manifest.rounds_of(epoch))[:count]
        return m.sign_statement(m.Escalation(session=self._session.id, epoch=epoch, rounds=rounds), self._key)

    def verdict(self, epoch: int) -> tuple[bytes, list[Finding]]:
        """Re-check the drawn rounds of an epoch; return the signed verdict and its findings (spec 6.6, E4).

        Raises:
            InconclusiveError: If the draw is not known, or a response is missing and its deadline has not passed.
        """
        session = self._session
        if not session.verdict_due(epoch):
            raise InconclusiveError(f"the draw of epoch {epoch} is not known yet, or a round may still be disclosed")
        audited = session.audited(epoch) or []  # the auctioneer kept its contribution back: that is the finding (5.6)
        responses, findings = self._read(audited)
        rechecked, _ = recheck(session, audited, self._runner, responses=responses)
        findings += epoch_findings(session, epoch, rechecked)
        body = m.VerdictStatement(
            session=session.id,
            epoch=epoch,
            rounds=audited,
            result=DEVIATION if findings else HOLDS,
            findings=[m.FindingBody(rule=f.rule, round=f.round, text=f.text[:200]) for f in findings[:MAX_FINDINGS]],
            findings_count=len(findings),
            bundle=bundle_hash(session, epoch),
        )
        return m.sign_statement(body, self._key), findings

    def _read(self, rounds: list[int]) -> tuple[dict[int, m.Response], list[Finding]]:
        """Open the responses that are sealed to this auditor (spec 7.7)."""
        responses, findings = {}, []
        for index in rounds:
            state = self._session.round(index)
            sealed = state.sealed.get(self.party)
            if sealed is None or state.response is not None or self._seal_key is None:
                continue
            try:
                responses[index] = unseal_response(self._session, sealed, self._seal_key)
            except ProtocolError as error:
                findings.append(Finding("7.7", index, "auctioneer", f"the sealed response cannot be read: {error}"))
        return responses, findings

    def assessment(self, epoch: int) -> bytes:
        """Return what the opened epoch shows after a deviation, and what bidders are owed (spec 6.6, E5; 9.2)."""
        session = self._session
        above: dict[int, dict[str, int]] = {}
        rechecked, _ = recheck(session, session.manifest.rounds_of(epoch), self._runner, overcharged=above)
        rounds, owed = assess(session, epoch, rechecked, above)
        body = m.Assessment(
            session=session.id,
            epoch=epoch,
            rounds=rounds,
            withheld=[i for i in session.manifest.rounds_of(epoch) if session.round(i).response is None],
            returns=[m.Amount(account=party, amount=amount) for party, amount in owed.items()],
        )
        return m.sign_statement(body, self._key)


class Arbiter:
    """Holds the escrow and executes verdicts (spec 6.6 E5, 9.14).

    Args:
        key: Its signing key, named by the manifest.
        session: The log as it sees it.
        runner: Executes the artifact: a verdict of deviation is recomputed before anybody pays.
        canaries: Nonces of the canary rounds that the manifest commits to (spec 7.9).
    """

    def __init__(
        self, key: SigningKey, session: Session, runner: Runner, canaries: Mapping[int, bytes] | None = None
    ) -> None:
        self._key, self._session, self._runner = key, session, runner
        self._canaries = dict(canaries or {})

    def reveal(self, epoch: int) -> list[bytes]:
        """Return the statements that reveal the canary rounds of an epoch; only once its verdicts are in (spec 7.9).

        Raises:
            InconclusiveError: If an auditor may still speak.
        """
        session = self._session
        late = session.passed(session.epoch_deadline(epoch, "verdict"))
        if len(session.epoch(epoch).verdicts) < len(session.auditors) and not late:
            raise InconclusiveError(f"auditors may still speak on epoch {epoch} (spec 7.9)")
        bodies = [
            m.Canary(session=session.id, round=index, nonce=self._canaries[index].hex())
            for index in session.manifest.rounds_of(epoch)
            if index in self._canaries and index not in session.canaries
        ]
        return [m.sign_statement(body, self._key) for body in bodies]

    def settle(self, epoch: int) -> tuple[bytes, dict[str, int]]:
        """Return the settlement of an epoch, or the halt after a deviation, and its movements by account.

        Raises:
            InconclusiveError: If an auditor may still speak, or the epoch is not assessed after a deviation.
        """
        session = self._session
        state = session.epoch(epoch)
        late = session.passed(session.epoch_deadline(epoch, "verdict"))
        if not state.verdicts or (len(state.verdicts) < len(session.auditors) and not late):
            raise InconclusiveError(f"auditors may still speak on epoch {epoch} (spec 6.6)")
        verdicts = [verdict for _, verdict in state.verdicts.values()]
        halt = False
        if session.condemned(epoch):
            if state.assessment is None:
                raise InconclusiveError(f"epoch {epoch} is not opened and assessed yet (spec 6.6)")
            halt = bool(convicting(session, epoch, self._runner))
        verdict = next((v for v in verdicts if (v.result == DEVIATION) == halt), verdicts[0])
        amounts = session.settlement_amounts(epoch, halt=halt)
        kind = m.Halt if halt else m.Settlement
        body = kind(
            session=session.id,
            epoch=epoch,
            verdict=hash_of("verdict", verdict).hex(),
            amounts=[m.Amount(account=account, amount=amount) for account, amount in amounts.items()],
        )
        return m.sign_statement(body, self._key), amounts


def convicting(session: Session, epoch: int, runner: Runner) -> list[Finding]:
    """Return what convicts the auctioneer in an epoch that is open in clear: what the arbiter decides by (spec 8.4)."""
    rounds = session.manifest.rounds_of(epoch)
    rechecked, _ = recheck(session, rounds, runner)
    found = [*epoch_findings(session, epoch, rechecked), *check_sealed(session, rounds)]
    assessment = session.epoch(epoch).assessment
    withheld = assessment.withheld if assessment else []
    silent = [Finding("7.8", index, "auctioneer", "the round was withheld after a deviation") for index in withheld]
    return [finding for finding in [*found, *silent] if finding.party == "auctioneer"]
