"""Re-checking disclosed rounds, and what the evidence shows (spec 7.5, 8). Pure functions.

No clock, no files, no network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protocol import messages as m
from protocol.artifact import Header, RoundInput, RoundOutput
from protocol.auctioneer import Runner
from protocol.commitment import Opening, seal_info, seal_opening, verify_opening
from protocol.encoding import bytes_from_hex, hash_of
from protocol.errors import InconclusiveError, ProtocolError
from protocol.outcomes import build_matrix, hide, round_input, rows_of
from protocol.randomness.lottery import UNSOLD, draw_winners, lottery_seed
from protocol.session import Session
from protocol.state import DEVIATION, HOLDS, Finding

_BY_RE_EXECUTION = {"7.5", "3.11", "3.12", "3.15", "3.16"}  # rules that the disclosed round alone decides
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


def recheck(session: Session, rounds: Iterable[int], runner: Runner) -> tuple[list[Finding], dict[str, int]]:
    """Re-check disclosed rounds from log and response, integer by integer (spec 7.5).

    Args:
        session: The log's state, responses included.
        rounds: Rounds to re-check; one without a response is left out here, `Session.overdue` names it.
        runner: Executes the artifact; the judge confirms before anybody is convicted (spec 7.6).

    Returns:
        Findings, and counts by kind of what was checked.

    Raises:
        InconclusiveError: If the runtime and the judge disagree: the runtime is then defective, not the auctioneer.
    """
    disclosed = [_disclose(session, index) for index in rounds if session.round(index).response is not None]
    findings = [finding for part in disclosed for finding in part.problems]
    runnable = [(part, part.item, part.matrix) for part in disclosed if part.item is not None and part.matrix]
    outputs = runner.run([item for _, item, _ in runnable])
    counts = {"rounds re-executed": len(runnable), "openings checked": 0, LOTTERY: 0}
    for (part, item, matrix), output in zip(runnable, outputs, strict=True):
        counts["openings checked"] += sum(item.participation)
        claimed = RoundOutput(allocation=matrix.allocation, payment=matrix.payment)
        if _restrict(output, item) != claimed:
            judged = runner.judge([item])[0]
            if judged != output:
                raise InconclusiveError(f"round {part.round}: the runtime and the judge disagree (spec 7.6)")
            findings.append(_result_finding(part, item, matrix, output))
            continue
        findings += _check_draw(session, part, item, matrix, output, counts)
    return findings, counts


def _restrict(output: RoundOutput, item: RoundInput) -> RoundOutput:
    seats = [seat for seat, bit in enumerate(item.participation) if bit]
    return RoundOutput(
        allocation=[output.allocation[seat] for seat in seats], payment=[output.payment[seat] for seat in seats]
    )


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


def _disclose(session: Session, index: int) -> Disclosed:
    state, manifest = session.round(index), session.manifest
    response, outcome = state.response, state.outcome
    part = Disclosed(index, [], None, None, b"", state.response_index)

    def problem(rule: str, text: str) -> None:
        part.problems.append(Finding(rule, index, "auctioneer", text, (part.entry,)))

    if response is None or outcome is None or state.close is None:
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
        supported = manifest.support(opening.body.bids)
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
            if hide("row", row, bytes_from_hex(nonce, "row nonce")) != outcome.rows[position]:
                problem("7.5", f"the row of seat {row.seat} is not the one that the outcome commits to")
    except (ProtocolError, ValueError, IndexError) as error:
        problem("7.5", f"matrix or rows: {error}")
    if len(state.context.values if state.context else []) != len(manifest.context):
        return part  # found in the log: the round has no context to run on
    part.item = round_input(session, index, mask, bids)
    part.matrix = matrix
    links = {party: opened[party].link for party, bit in zip(session.seats, mask, strict=True) if bit}
    links[session.auctioneer.party] = outcome.link
    part.seed = lottery_seed(session.id, index, state.close.root, links)
    return part


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
    return again == statement.ct and session.manifest.support(opening.body.bids) is not None


def _check_draw(
    session: Session,
    part: Disclosed,
    item: RoundInput,
    matrix: m.MatrixBody,
    output: RoundOutput,
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
        won = matrix.won
    else:
        won = draw_winners(output.allocation, part.seed, manifest.share_bits, manifest.draw)
        if won != matrix.won:
            text = f"winners are {_short(matrix.won)}, the draw gives {_short(won)}"
            return [Finding("3.15", part.round, "auctioneer", text, (part.entry,))]
    right = build_matrix(manifest, part.round, item.participation, item.bids, output, won)
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


def epoch_findings(session: Session, epoch: int, rechecked: list[Finding], before: int | None = None) -> list[Finding]:
    """Return what convicts in an epoch: rules broken in the log of its rounds, and what re-execution found.

    Args:
        session: The log's state.
        epoch: Epoch, from 0.
        rechecked: Findings of `recheck` over the epoch's drawn rounds.
        before: Only log findings proved below this position.
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
    return [*logged, *silent, *check_complaints(session, rounds), *(f for f in rechecked if f.round in rounds)]


def bundle_hash(session: Session, epoch: int) -> str:
    """Return the name of the evidence of an epoch: the log up to the close of its contributions (spec 8.1)."""
    closed = session.epoch(epoch).closed
    size, root = (closed.size, closed.root) if closed else (0, "")
    return hash_of("bundle", {"epoch": epoch, "root": root, "session": session.id, "size": size}).hex()


def check_verdicts(session: Session, rechecked: list[Finding]) -> list[Finding]:
    """Compare the auditors' logged verdicts with the recomputed ones (spec 7.9)."""
    findings = []
    for epoch, state in sorted(session.epochs.items()):
        if state.verdict is None:
            continue
        right = DEVIATION if epoch_findings(session, epoch, rechecked, state.verdict_index) else HOLDS
        at = (state.verdict_index,)
        unseen = {item.rule for item in state.verdict.findings} - _BY_RE_EXECUTION
        if state.verdict.result == DEVIATION and right == HOLDS and unseen:
            # an auditor may have seen a checkpoint that is not at hand here: no ground to accuse anybody
            session.unproven.append(
                f"the verdict on epoch {epoch} rests on rule {min(unseen)}, not shown by what is at hand"
            )
        elif state.verdict.result != right:
            text = f"verdict on epoch {epoch} is {state.verdict.result}, the evidence shows {right}"
            findings.append(Finding("7.9", -1, "auditor", text, at))
        if state.verdict.rounds != (session.drawn(epoch) or []) or state.verdict.bundle != bundle_hash(session, epoch):
            findings.append(Finding("7.9", -1, "auditor", f"verdict on epoch {epoch} rests on other evidence", at))
    return findings
