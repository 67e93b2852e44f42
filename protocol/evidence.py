"""Re-checking disclosed rounds, and what the evidence shows (spec 7.5, 8). Pure functions.

No clock, no files, no network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from protocol import messages as m
from protocol.artifact import Header, RoundInput, RoundOutput, Runner
from protocol.commitment import Opening, seal_info, seal_opening, verify_opening
from protocol.encoding import bytes_from_hex, hash_from_hex, hash_of
from protocol.errors import InconclusiveError, ProtocolError
from protocol.outcomes import build_matrix, hide, round_input, rows_of, seal_response
from protocol.penalties import auctioneer_regret
from protocol.randomness.lottery import UNSOLD, draw_winners, lottery_seed
from protocol.session import Session
from protocol.state import DEVIATION, HOLDS, Finding

_BY_RE_EXECUTION = {
    "7.5",
    "7.7",
    "3.11",
    "3.12",
    "3.14",
    "3.15",
    "3.16",
}  # rules that the disclosed round alone decides
CANARY = "canary"  # party of a finding that the arbiter planted: it convicts nobody, and no auditor may miss it
LOTTERY = "lottery"  # class of a recorded winner among tied bids, explained but not re-drawn


@dataclass(slots=True)
class Disclosed:
    """A drawn round, reduced to what the artifact is run on; `problems` were found before it is run."""

    round: int
    problems: list[Finding]
    item: RoundInput | None
    matrix: m.MatrixBody | None
    seed: bytes
    entry: int
    row_nonces: list[str] = field(default_factory=list)


def recheck(
    session: Session,
    rounds: Iterable[int],
    runner: Runner,
    *,
    responses: Mapping[int, m.Response] | None = None,
    overcharged: dict[int, dict[str, int]] | None = None,
) -> tuple[list[Finding], dict[str, int]]:
    """Re-check disclosed rounds from log and response, integer by integer (spec 7.5).

    There is no tolerance, and so no false alarm (spec 9.13).

    Args:
        session: The log's state, responses included.
        rounds: Rounds to re-check; one without a response is left out here, `Session.overdue` names it.
        runner: Executes the artifact; the judge confirms before anybody is convicted (spec 7.6).
        responses: Responses by round that were sealed to the reader, where the log has none in clear (spec 7.7).
        overcharged: Receives, by round, what each bidder was charged above the mechanism's charge (spec 9.2).

    Returns:
        Findings, and counts by kind of what was checked.

    Raises:
        InconclusiveError: If the runtime and the judge disagree: the runtime is then defective, not the auctioneer.
    """
    disclosed = []
    for index in rounds:
        response = session.round(index).response or (responses or {}).get(index)
        if response is not None:
            disclosed.append(_disclose(session, index, response))
    findings = [finding for part in disclosed for finding in part.problems]
    runnable = [(part, part.item, part.matrix) for part in disclosed if part.item is not None and part.matrix]
    outputs = runner.run([item for _, item, _ in runnable])
    counts = {"rounds re-executed": len(runnable), "openings checked": 0, LOTTERY: 0}
    for (part, item, matrix), output in zip(runnable, outputs, strict=True):
        counts["openings checked"] += sum(item.participation)
        claimed = RoundOutput(allocation=matrix.allocation, payment=matrix.payment)
        differs = _restrict(output, item) != claimed
        if differs:
            judged = runner.judge([item])[0]
            if judged != output:
                raise InconclusiveError(f"round {part.round}: the runtime and the judge disagree (spec 7.6)")
        if part.round in session.canaries:
            findings += _check_canary(session, part, item, output)
            continue
        if session.manifest.valuation == "unit_demand" and any(
            sum(row) > 1 << session.manifest.share_bits for row in output.allocation
        ):
            text = "the mechanism gives a bidder more than one item, the manifest promises unit demand"
            findings.append(Finding("3.14", part.round, "auctioneer", text, (part.entry,)))
            continue
        right = _right_matrix(session, part, item, output, matrix)
        if overcharged is not None:
            above = {
                session.seats[seat]: got - due
                for seat, got, due in zip(matrix.seats, matrix.charge, right.charge, strict=True)
                if got > due
            }
            overcharged[part.round] = above
        if differs:
            findings.append(_result_finding(part, item, matrix, output))
            continue
        findings += _check_draw(session, part, matrix, output, right, counts)
    return findings, counts


def _restrict(output: RoundOutput, item: RoundInput) -> RoundOutput:
    seats = [seat for seat, bit in enumerate(item.participation) if bit]
    return RoundOutput(
        allocation=[output.allocation[seat] for seat in seats], payment=[output.payment[seat] for seat in seats]
    )


def _right_matrix(
    session: Session, part: Disclosed, item: RoundInput, output: RoundOutput, claimed: m.MatrixBody
) -> m.MatrixBody:
    """Return what the matrix of a round should be; a recorded winner is taken as claimed."""
    manifest = session.manifest
    won = claimed.won
    if manifest.draw != "recorded":
        won = draw_winners(output.allocation, part.seed, manifest.share_bits, manifest.draw)
    return build_matrix(manifest, part.round, item.participation, item.bids, output, won)


def _check_canary(session: Session, part: Disclosed, item: RoundInput, output: RoundOutput) -> list[Finding]:
    """Check that only the matrix of a canary round is planted: the bidders' rows are the mechanism's (spec 7.9)."""
    outcome = session.round(part.round).outcome
    if outcome is None or part.matrix is None:
        return []
    rows = rows_of(_right_matrix(session, part, item, output, part.matrix))
    for position, (row, nonce) in enumerate(zip(rows, part.row_nonces, strict=True)):
        if position >= len(outcome.rows) or hide("row", row, bytes.fromhex(nonce)) != outcome.rows[position]:
            text = f"canary round: the row of seat {row.seat} is not what the mechanism gives"
            return [Finding("7.9", part.round, "auctioneer", text, (part.entry,))]
    return [Finding("7.5", part.round, CANARY, "the planted fault", (part.entry,))]


def _result_finding(part: Disclosed, item: RoundInput, matrix: m.MatrixBody, output: RoundOutput) -> Finding:
    wanted = _restrict(output, item)
    for seat, shares, payment, right, due in zip(
        matrix.seats, matrix.allocation, matrix.payment, wanted.allocation, wanted.payment, strict=False
    ):
        if shares != right:
            what = f"seat {seat} is given shares {_short(shares)}, the mechanism gives {_short(right)}"
            return Finding("7.5", part.round, "auctioneer", what, (part.entry,))
        if payment != due:
            what = f"seat {seat} pays {payment} fine units, the mechanism charges {due}"
            return Finding("7.5", part.round, "auctioneer", what, (part.entry,))
    return Finding("7.5", part.round, "auctioneer", "the result has other rows than the mask", (part.entry,))


def _short(values: list[int]) -> str:
    return str(values if len(values) <= 8 else [*values[:8], "..."])


def _disclose(session: Session, index: int, response: m.Response) -> Disclosed:
    state, manifest = session.round(index), session.manifest
    outcome = state.outcome
    entry = state.response_index if state.response is not None else state.outcome_index
    part = Disclosed(index, [], None, None, b"", entry)

    def problem(rule: str, text: str) -> None:
        part.problems.append(Finding(rule, index, "auctioneer", text, (part.entry,)))

    if outcome is None or state.close is None:
        problem("7.4", "the response is for a round without close or outcome")
        return part
    committed, opened = session.committed(index), session.opened(index, outcome.size)
    bids: dict[str, list[int]] = {}
    seen: set[str] = set()
    for item in response.openings:
        party = item.body.bidder
        if party in seen or party not in committed or party not in opened:
            problem("7.5", "an opening is listed twice, or was not logged in time")
            continue
        seen.add(party)
        seat = session.bidders[party].seat
        try:
            opening = Opening(item.body, bytes_from_hex(item.nonce, "nonce"))
            verify_opening(opening, bytes.fromhex(committed[party].com), session.expected_body(index, party))
        except ProtocolError as error:
            problem("7.5", f"seat {seat}: {error}")
            continue
        supported = manifest.support(opening.body.bids, index)
        if (supported is None) != (state.voids.get(party) == m.OUTSIDE_SUPPORT):
            problem(
                "3.12", f"seat {seat}: bids {_short(opening.body.bids)} and void do not agree with the support rule"
            )
        if supported is not None:
            bids[party] = supported
    for party in committed:
        reason, seat = state.voids.get(party), session.bidders[party].seat
        if party not in seen and party in opened and reason not in (m.UNREADABLE, m.UNMATCHED):
            problem("7.4", f"seat {seat}: the commitment is not opened in the response")
    mask = session.mask(index, outcome.size)
    if any(bit and party not in bids for party, bit in zip(session.seats, mask, strict=True)):
        return part  # named above: what cannot be opened cannot be run
    nonces = response.row_nonces
    matrix = response.matrix
    seats = [seat for seat, bit in enumerate(mask) if bit]
    if (matrix.session, matrix.round, matrix.seats) != (session.id, index, seats):
        problem("7.5", f"the matrix is of other seats: {_short(matrix.seats)}, wanted {_short(seats)}")
        return part
    shaped = len(matrix.allocation) == len(matrix.payment) == len(matrix.charge) == len(nonces) == len(seats)
    if not shaped or len(matrix.won) != len(manifest.items):
        problem("7.5", "the matrix has lists of other lengths than its seats and items")
        return part
    try:
        if hide("matrix", matrix, bytes_from_hex(response.matrix_nonce, "matrix nonce")) != outcome.matrix:
            problem("7.5", "the matrix is not the one that the outcome commits to")
        for position, (row, nonce) in enumerate(zip(rows_of(matrix), nonces, strict=True)):
            hash_from_hex(nonce, "row nonce")
            if index in session.canaries:
                continue  # the matrix alone is planted; the rows are checked against the mechanism (spec 7.9)
            if hide("row", row, bytes_from_hex(nonce, "row nonce")) != outcome.rows[position]:
                problem("7.5", f"the row of seat {row.seat} is not the one that the outcome commits to")
    except (ProtocolError, ValueError, IndexError) as error:
        problem("7.5", f"matrix or rows: {error}")
        return part
    if len(state.context.values if state.context else []) != len(manifest.context):
        return part  # found in the log: the round has no context to run on
    part.item = round_input(session, index, mask, bids)
    part.matrix, part.row_nonces = matrix, nonces
    links = {party: opened[party].link for party, bit in zip(session.seats, mask, strict=True) if bit}
    links[session.auctioneer.party] = outcome.link
    beacon = session.beacon_for(manifest.beacon_of_round(index))
    if beacon is None:
        raise InconclusiveError(f"beacon round {manifest.beacon_of_round(index)} is not at hand (spec 5.4)")
    part.seed = lottery_seed(session.id, index, state.close.root, links, beacon)
    return part


def round_regrets(session: Session, rounds: Iterable[int]) -> dict[int, int]:
    """Return the auctioneer regret of rounds that are disclosed in clear: V(bids) - revenue, fine units (spec 9.11).

    Of an honest round it is what the best deviation would have gained; it convicts nobody.
    """
    manifest, result = session.manifest, {}
    for index in rounds:
        response = session.round(index).response
        if response is None:
            continue
        seats = {session.seats[seat] for seat in response.matrix.seats if 0 <= seat < len(session.seats)}
        executed = [
            bids
            for opened in response.openings
            if opened.body.bidder in seats and (bids := manifest.support(opened.body.bids, index)) is not None
        ]
        result[index] = auctioneer_regret(executed, response.matrix.payment, manifest.share_bits, manifest.valuation)
    return result


def check_complaints(session: Session, rounds: Iterable[int]) -> list[Finding]:
    """Judge every complaint of some rounds, drawn or not: a void that lies is proved by the opening (spec 3.11)."""
    findings = []
    for index in rounds:
        state = session.rounds.get(index)
        for party, complaint in state.complaints.items() if state else ():
            if _complaint_holds(session, index, party, complaint):
                text = f"seat {session.bidders[party].seat}: its opening in time was good, the void is false"
                findings.append(Finding("3.11", index, "auctioneer", text, (state.outcome_index,) if state else ()))
    return findings


def _complaint_holds(session: Session, index: int, party: str, opened: m.OpenedBid) -> bool:
    """Whether an opening in clear proves that the sealed one was good: seal it again and compare (spec 3.11)."""
    state = session.round(index)
    if state.outcome is None or party not in session.opened(index, state.outcome.size):
        return False  # no opening in time: late never counts (spec 3.10)
    if party not in state.voids:
        return False
    statement = state.openings[party][1]
    try:
        opening = Opening(opened.body, bytes_from_hex(opened.nonce, "nonce"))
        verify_opening(opening, bytes.fromhex(statement.com), session.expected_body(index, party))
        info = seal_info(session.id, index, party, session.auctioneer.party, statement.com)
        again = seal_opening(opening, bytes.fromhex(statement.ct_key), info).hex()
    except ProtocolError:
        return False
    return again == statement.ct and session.manifest.support(opening.body.bids, index) is not None


def _check_draw(
    session: Session,
    part: Disclosed,
    matrix: m.MatrixBody,
    output: RoundOutput,
    right: m.MatrixBody,
    counts: dict[str, int],
) -> list[Finding]:
    manifest = session.manifest
    if manifest.draw == "recorded":
        # the lottery was held elsewhere: the winner must be in its support, and is not re-drawn (docs/spec.md, 3.15)
        for column, winner in enumerate(matrix.won):
            shares = [row[column] for row in output.allocation]
            candidates = [seat for seat, share in enumerate(shares) if share]
            if winner not in (candidates or [UNSOLD]):
                text = f"item {column} goes to {winner}, the mechanism's candidates are {candidates}"
                return [Finding("3.15", part.round, "auctioneer", text, (part.entry,))]
            counts[LOTTERY] += len(candidates) > 1
    elif right.won != matrix.won:
        text = f"winners are {_short(matrix.won)}, the draw gives {_short(right.won)}"
        return [Finding("3.15", part.round, "auctioneer", text, (part.entry,))]
    if right.charge != matrix.charge:
        text = f"charges are {_short(matrix.charge)}, the rule gives {_short(right.charge)}"
        return [Finding("3.16", part.round, "auctioneer", text, (part.entry,))]
    return []


def check_artifact(session: Session, header: Header) -> list[Finding]:
    """Check that the artifact behind `mech` is one that the manifest's rules can run (spec 2.13, 6.2)."""
    manifest = session.manifest
    return [
        Finding("2.13", -1, "auctioneer", f"the manifest has {what} {got}, the artifact {wanted}", (0,))
        for what, got, wanted in (
            ("seats", manifest.seats, header.bidders),
            ("items", len(manifest.items), header.items),
            ("share_bits", manifest.share_bits, header.share_bits),
            ("context", manifest.context, header.context),
            ("unit", manifest.grid.unit, header.unit),
            (
                "a grid that the artifact would clamp, maximum",
                min(manifest.grid.maximum, header.bid_max),
                manifest.grid.maximum,
            ),
        )
        if got != wanted
    ]


def epoch_findings(
    session: Session,
    epoch: int,
    rechecked: list[Finding],
    before: int | None = None,
    verdict: m.VerdictStatement | None = None,
) -> list[Finding]:
    """Return what convicts in an epoch: rules broken in the log of its rounds, and what re-execution found.

    Args:
        session: The log's state.
        epoch: Epoch, from 0.
        rechecked: Findings of `recheck` over the epoch's drawn rounds.
        before: Only log findings proved below this position.
        verdict: Only what re-execution found in the rounds of this verdict.
    """
    rounds = session.manifest.rounds_of(epoch)
    logged = [
        finding
        for finding in session.findings
        if finding.party == "auctioneer"
        and finding.round in rounds
        and (before is None or all(entry < before for entry in finding.entries))
    ]
    silent, _ = session.overdue(only=epoch)
    shown = {f for f in rechecked if f.round in rounds}
    if verdict is not None:  # an auditor answers for the rounds that it was shown, canaries included
        shown = {f for f in shown if f.round in verdict.rounds}
    found = sorted(shown, key=lambda finding: (finding.round, finding.rule, finding.text))
    return [*logged, *silent, *check_complaints(session, rounds), *found]


def bundle_hash(session: Session, epoch: int) -> str:
    """Return the name of the evidence of an epoch: the log up to the close of its contributions (spec 8.1)."""
    closed = session.epoch(epoch).closed
    size, root = (closed.size, closed.root) if closed else (0, "")
    return hash_of("bundle", {"epoch": epoch, "root": root, "session": session.id, "size": size}).hex()


def check_verdicts(
    session: Session, rechecked: list[Finding], *, readable: bool = True, epochs: Sequence[int] | None = None
) -> list[Finding]:
    """Compare the auditors' logged verdicts with the recomputed ones (spec 7.9).

    Args:
        session: The log's state.
        rechecked: Findings of `recheck` over everything that is disclosed.
        readable: Whether the reader could open what is sealed to auditors.
        epochs: Only verdicts on these; on all if left out.
    """
    findings = []
    for epoch in sorted(session.epochs) if epochs is None else epochs:
        state = session.epoch(epoch)
        for party, (index, verdict) in sorted(state.verdicts.items(), key=lambda item: item[1][0]):
            right = DEVIATION if epoch_findings(session, epoch, rechecked, index, verdict) else HOLDS
            unseen = {item.rule for item in verdict.findings} - _BY_RE_EXECUTION
            sealed = any(session.round(i).response is None and session.round(i).sealed for i in verdict.rounds)
            number = next(n for n, key in enumerate(session.auditors) if key.party == party)

            def fault(text: str, epoch: int = epoch, number: int = number, index: int = index) -> Finding:
                return Finding("7.9", -1, "auditor", f"auditor {number}: verdict on epoch {epoch} {text}", (index,))

            if sealed and not readable and right == HOLDS:
                pass  # what it rests on is sealed; `verify` says so
            elif verdict.result == DEVIATION and right == HOLDS and unseen:
                # an auditor may have seen a checkpoint that is not at hand here: no ground to accuse anybody
                session.unproven.append(
                    f"the verdict on epoch {epoch} rests on rule {min(unseen)}, not shown by what is at hand"
                )
            elif verdict.result != right:
                findings.append(fault(f"is {verdict.result}, the evidence shows {right}"))
            if verdict.rounds != (session.audited(epoch) or []) or verdict.bundle != bundle_hash(session, epoch):
                findings.append(fault("rests on other evidence"))
    return findings


def assess(
    session: Session, epoch: int, rechecked: list[Finding], overcharged: Mapping[int, Mapping[str, int]]
) -> tuple[list[int], dict[str, int]]:
    """Return which rounds of a whole opened epoch convict, and what bidders are owed (spec 6.6, 9.2).

    Args:
        session: The log's state.
        epoch: Epoch, from 0.
        rechecked: Findings of `recheck` over its rounds.
        overcharged: What `recheck` filled in.

    Returns:
        Rounds, ascending, and amounts by party id in fine units; no amounts where gains are kept.
    """
    rounds = session.manifest.rounds_of(epoch)
    owed: Counter[str] = Counter()
    if session.manifest.money.gains == "returned":
        for index in rounds:
            owed.update(overcharged.get(index, {}))
    convicted = {f.round for f in rechecked if f.party == "auctioneer" and f.round in rounds}
    return sorted(convicted), dict(sorted(owed.items()))


def check_assessments(
    session: Session, rechecked: list[Finding], overcharged: Mapping[int, Mapping[str, int]]
) -> list[Finding]:
    """Recompute what auditors assessed, and name the rounds withheld from it (spec 6.6, 7.8)."""
    findings = []
    for epoch, state in sorted(session.epochs.items()):
        if state.assessment is None:
            continue
        rounds, owed = assess(session, epoch, rechecked, overcharged)
        stated = {item.account: item.amount for item in state.assessment.returns}
        if (rounds, owed) != (state.assessment.rounds, stated):
            text = f"assessment of epoch {epoch} names {len(state.assessment.rounds)} rounds and other amounts"
            findings.append(Finding("6.6", -1, "auditor", f"{text}, the evidence shows {len(rounds)}"))
        for index in state.assessment.withheld:
            findings.append(Finding("7.8", index, "auctioneer", "the round was withheld after a deviation"))
    return findings


def check_sealed(session: Session, rounds: Iterable[int]) -> list[Finding]:
    """Seal again what is disclosed in clear by now: a garbled sealing was the auctioneer's (spec 7.7)."""
    findings = []
    for index in rounds:
        state = session.rounds.get(index)
        if state is None or state.response is None:
            continue
        for number, key in enumerate(session.auditors):
            sealed = state.sealed.get(key.party)
            if sealed is not None and seal_response(session, state.response, number) != sealed:
                text = f"the response sealed to auditor {number} is not the one in clear"
                findings.append(Finding("7.7", index, "auctioneer", text, (state.response_index,)))
    return findings


def check_decisions(session: Session, rechecked: list[Finding]) -> list[Finding]:
    """Check that the arbiter halted where an opened epoch convicts, and only there (spec 6.6, 9.14)."""
    findings = []
    for epoch, state in sorted(session.epochs.items()):
        if state.settlement is None or not session.condemned(epoch):
            continue
        rounds = session.manifest.rounds_of(epoch)
        found = [*epoch_findings(session, epoch, rechecked), *check_sealed(session, rounds)]
        guilty = any(finding.party == "auctioneer" for finding in found)
        guilty = guilty or bool(state.assessment and state.assessment.withheld)
        unseen = {item.rule for _, verdict in state.verdicts.values() for item in verdict.findings} - _BY_RE_EXECUTION
        if guilty != isinstance(state.settlement, m.Halt) and not (unseen and not guilty):
            text = f"epoch {epoch} is {'settled' if guilty else 'halted'}, the opened epoch shows otherwise"
            findings.append(Finding("6.6", -1, "arbiter", text))
    return findings


@dataclass(slots=True)
class Judgement:
    """What the whole of the evidence shows; every reader comes to the same (spec 8.2).

    Attributes:
        findings: Broken rules, by round.
        waiting: What is missing or not there yet: without a finding the verdict is then inconclusive.
        counts: What was checked, by kind.
    """

    findings: list[Finding]
    waiting: list[str]
    counts: dict[str, int]


class Judge:
    """Judges a session, all at once or epoch by epoch while its log is read; every reader comes to the same (spec 8.2).

    Args:
        session: The log's state.
        runner: Executes the artifact that `mech` names.
    """

    def __init__(self, session: Session, runner: Runner) -> None:
        self._session, self._runner = session, runner
        self._findings: set[Finding] = set()
        self._counts: Counter[str] = Counter()
        self._ready: list[int] = []

    def ready(self, index: int, least: int) -> bool:
        """Whether at least so many rounds can be judged and forgotten, since nothing from a log index on changes them.

        Args:
            index: Of the next entry.
            least: Rounds that are worth a start of the runner.
        """
        session, first = self._session, self._session.forgotten
        while first + len(self._ready) < session.manifest.epochs and session.final(first + len(self._ready), index):
            self._ready.append(first + len(self._ready))
        return len(self._ready) * session.manifest.epoch_rounds >= least

    def advance(self) -> None:
        """Judge the epochs that are ready, and let the session forget them."""
        session, epochs = self._session, self._ready
        rounds = [index for epoch in epochs for index in session.manifest.rounds_of(epoch)]
        shown = [index for index in rounds if session.round(index).response is not None]
        rechecked, counts = recheck(session, shown, self._runner)
        self._findings.update(rechecked, check_complaints(session, rounds))
        self._findings.update(check_verdicts(session, rechecked, epochs=epochs))
        for epoch in epochs:
            session.forget(epoch)
        self._counts.update(counts)
        self._ready = []

    def conclude(
        self,
        *,
        epoch: int | None = None,
        responses: Mapping[int, m.Response] | None = None,
        unread: Sequence[int] = (),
    ) -> Judgement:
        """Judge what is left of a session whose entries are applied, or one epoch of it; return the whole.

        Args:
            epoch: Judge this epoch alone, as a bundle does.
            responses: Responses that were sealed to the reader (spec 7.7).
            unread: Rounds that are disclosed to others only.
        """
        session, manifest = self._session, self._session.manifest
        first = manifest.rounds_of(session.forgotten).start
        judged = range(first, manifest.rounds) if epoch is None else manifest.rounds_of(epoch)
        overdue, waiting = session.overdue(only=epoch)
        above: dict[int, dict[str, int]] = {}
        shown = {index for index, state in session.rounds.items() if state.response is not None and index in judged}
        rechecked, counts = recheck(
            session, sorted({*shown, *(responses or {})}), self._runner, responses=responses, overcharged=above
        )
        findings = {
            *self._findings,
            *session.findings,
            *overdue,
            *(finding for finding in rechecked if finding.party != CANARY),
            *check_assessments(session, rechecked, above),
            *check_complaints(session, judged),
            *check_sealed(session, judged),
            *check_verdicts(session, rechecked, readable=not unread),
            *check_decisions(session, rechecked),
        }
        if unread:
            session.unproven.append(
                f"{len(unread)} drawn rounds are sealed to the auditors; their verdicts vouch for them"
            )
        ordered = sorted(findings, key=lambda finding: (finding.round, finding.rule, finding.text))
        self._counts.update(counts)
        return Judgement(ordered, [*session.unproven, *waiting], dict(self._counts))
