"""A session as a report tells it: the verdict, what was checked by whom, audits, money, exceptions."""

from __future__ import annotations

import re
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from credible.money import format_fine
from credible.reports.blocks import Part, Picture, Section, Table, numbers
from credible.reports.style import COLOURS, GREY, inline, new
from credible.simulation.agents import Terms
from credible.simulation.questions import worst_case
from protocol.errors import MalformedError
from protocol.manifest import Manifest
from protocol.penalties import requirement
from protocol.session import Session
from protocol.verify import NOT_TRUSTED, Trust, Verdict, verify_path

MEANINGS: Final = {
    "2.14": "another mechanism was named than the one that was announced",
    "3.6": "a bid got a receipt and is missing from the round",
    "3.8": "a bid was counted that came too late, or the round was closed on another list",
    "3.13": "the participants of a round are not those who signed that they take part",
    "3.14": "somebody was charged above its own bid, or something was given away twice",
    "3.15": "a lottery was not drawn as the public coins say",
    "3.17": "a bidder was shown another result than the one that was committed to",
    "7.4": "a round that was drawn for audit was not shown",
    "7.5": "the published result of a round is not what the announced mechanism computes from its bids",
}
LONG: Final = 400  # rounds of an epoch at most: a foreign manifest is not to cost minutes
MARKS: Final = 1000  # of a timeline that are drawn one by one
LISTED: Final = 200  # findings that a report lists
KINDS: Final = (
    ("rounds re-executed", "rounds run again on the published file, compared integer by integer"),
    ("openings checked", "bids of those rounds that match the bidders' own commitments"),
    ("bid statements", "signed commitments to bids"),
    ("presence statements", "signed statements of who takes part"),
    ("outcome statements", "rounds whose result is committed to on the log"),
    ("checkpoints", "heads of the log, signed and witnessed, each an extension of the last"),
    ("log entries", "entries of the public log, all read"),
    ("verdict statements", "auditors' verdicts, judged again"),
    ("settlement statements", "settlements of epochs, recomputed"),
)


def session_part(folder: Path, trust: Path | None, name: str = "") -> Part:
    """Verify a session and return what a report says of it.

    Raises:
        MalformedError: If its public log cannot be read at all.
    """
    verdict = verify_path(folder, Trust.read(trust) if trust is not None else None)
    session = verdict.session
    if session is None:
        raise MalformedError(f"{folder}: {verdict.verdict}: {'; '.join(verdict.notes)}")
    headline, reasons = _verdict(verdict, session)
    sections = [
        *_findings(verdict, folder),
        _checked(verdict, session, trust),
        _timeline(verdict, session),
        _deterrence(session.manifest, convicted=verdict.verdict == "deviation"),
        _money(session),
        *_profiles(session),
        Section(
            "What the session says of itself",
            facts=[("session", session.id)],
            blocks=[Table(("label",), [(label,) for label in verdict.labels], "Labels (spec 1.6)", folded=True)],
            notes=["Not proved here: that values are true, that bidders are independent, that the mechanism is good."],
        ),
    ]
    unchecked = verdict.verdict == "holds" and not verdict.checked["rounds re-executed"]
    tone = "inconclusive" if unchecked else verdict.verdict
    return Part(name or folder.name, verdict.verdict, headline, reasons, sections, tone)


def _rules_text(manifest: Manifest) -> str:
    audit = manifest.audit
    if audit.mode == "fixed":
        return f"{audit.k} of every {manifest.epoch_rounds} rounds audited"
    if audit.mode == "exposure":
        return "each round audited with a chance that grows with what is at stake"
    return f"each round audited with chance {audit.q_num}/{audit.q_den}"


def _amount(amount: int, manifest: Manifest) -> str:
    """Return fine units as people count: 16.5 where the unit is a fraction of something, else so many units."""
    unit = _unit(manifest)
    if unit is None:
        return f"{format_fine(amount, manifest.share_bits).replace('~', 'about ')} x {manifest.grid.unit}"
    return f"{float(Fraction(amount, unit[0] << manifest.share_bits)):,.6g} (in units of {unit[1]})"


def _unit(manifest: Manifest) -> tuple[int, str] | None:
    """Return how many grid units are one unit, and what it is called, where the grid's name says so."""
    part = re.fullmatch(r"(?:1/([1-9][0-9]{0,17})|1e-([0-9]{1,2})) of (.+)", manifest.grid.unit)
    if part is None:
        return None
    return (int(part[1]) if part[1] else 10 ** int(part[2])), part[3]


def _verdict(verdict: Verdict, session: Session) -> tuple[str, list[str]]:
    """Return the verdict in one sentence, and why."""
    manifest, checked = session.manifest, verdict.checked
    rounds, again = checked["outcome statements"], checked["rounds re-executed"]
    money = manifest.money
    left = f"The {rounds - again:,} rounds that were not re-executed are covered by"
    if not money.penalty:
        stake = f"{left} nothing: nobody holds a deposit in this session."
    elif _deters(manifest):
        stake = f"{left} a penalty of {_amount(money.penalty, manifest)}, held in deposit: on average cheating loses."
    else:
        stake = f"{left} a penalty of {_amount(money.penalty, manifest)}, less than the best cheat could gain."
    ran = f"{again:,} of {rounds:,} rounds were drawn by lot and run again on the published file"
    if verdict.verdict == "holds":
        counted = (
            "Every bid on the log was counted as it was committed, and none was late. That a bid never got there only "
            "its bidder can show, with its receipt."
        )
        if not again:
            reasons = ["No round was drawn, so no result was computed again.", counted, stake]
            return "Every rule that could be checked was kept, but no result was.", reasons
        reasons = [f"{ran}: every result is the same, to the last unit.", counted]
        if again >= rounds:
            return "Every round was checked, and every result is right.", reasons
        few = max(1, round(rounds / 20))
        plural = f"{few} rounds" if few > 1 else "one round"
        reasons += [
            f"Had {plural} been altered, an audit would have met one with a chance of {_met(manifest, few):.0%}."
        ]
        headline = (
            f"No cheating found in the {again:,} of {rounds:,} rounds that were checked; {rounds - again:,} were not."
        )
        return headline, [*reasons, stake]
    if verdict.verdict in ("deviation", "invalid"):
        parties = sorted({finding.party for finding in verdict.findings}) or ["the session"]
        broken = sorted({finding.rule for finding in verdict.findings})
        where = sorted({finding.round for finding in verdict.findings if finding.round >= 0})
        plural = "s" if len(broken) > 1 else ""
        verb = "are" if len(broken) > 1 else "is"
        listed = ", ".join(broken)
        rules = f"Rule{plural} {listed} of the specification {verb} broken" if broken else "A proof does not verify"
        rounds_text = f", in round{'s' if len(where) > 1 else ''} {_ranges(where)}" if where else ""
        reasons = [_sentence(MEANINGS[rule]) for rule in broken if rule in MEANINGS]
        reasons.append(f"{rules}{rounds_text}. Each line below can be checked by anyone.")
        if manifest.preset == "record":
            told = "These auctions are over and were replayed: a record seldom says why, and nobody is accused here."
            differ = f"{len(where):,} of {rounds:,} recorded results are not what the announced rule gives."
            return differ, [told, *reasons]
        if session.halted_epoch is not None:
            halted = f"The session was halted after round {manifest.rounds_of(session.halted_epoch)[-1]}"
            paid = f" and the penalty of {_amount(money.penalty, manifest)} was paid" if money.penalty else ""
            reasons.append(f"{halted}{paid}.")
        return f"Do not trust this session: {' and '.join(_who(party) for party in parties)} broke the rules.", reasons
    if verdict.verdict == "inconclusive":
        return "No verdict: what is here proves neither honesty nor cheating.", [
            *(_sentence(note) for note in verdict.notes),
            *(
                ["Get the session's trust file from somebody else than the auctioneer, and name it with --trust."]
                if NOT_TRUSTED in verdict.notes
                else []
            ),
            f"So far {ran}." if again else "No round was re-executed.",
        ]
    return "This cannot be read as a session.", [_sentence(note) for note in verdict.notes]


def _met(manifest: Manifest, deviating: int) -> float:
    """Return the chance that an audit meets one of so many deviating rounds, as many in each epoch as may be."""
    audit = manifest.audit
    if audit.mode == "exposure":
        return 1 - (1 - min((e.num / e.den for e in audit.exposures), default=0.0)) ** deviating
    rules = _terms(manifest)
    return float(rules.detection(min(deviating, rules.rounds)))


def _who(party: str) -> str:
    return f"the {party}" if party in ("auctioneer", "auditor", "arbiter", "witness") else f"bidder {party[:12]}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _ranges(values: list[int], most: int = 12) -> str:
    """Return numbers as text, runs joined: 0 to 4, 17."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    parts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs[:most]]
    return ", ".join(parts) + (" and more" if len(runs) > most else "")


def _checked(verdict: Verdict, session: Session, trust: Path | None) -> Section:
    manifest = session.manifest
    pinned = (
        f"session, auctioneer and witness policy were pinned by {trust.name}"
        if verdict.trusted and trust is not None
        else "nothing: without a trust file a forger could have made all of this"
    )
    rows = [(f"{verdict.checked[kind]:,}", text) for kind, text in KINDS if verdict.checked[kind]]
    keys = [("auctioneer", manifest.auctioneer), ("log", manifest.log), ("arbiter", manifest.arbiter)]
    keys += [(f"auditor {number + 1}", key) for number, key in enumerate(manifest.auditors)]
    return Section(
        "What was checked, and by whom",
        [
            "Everything on this page was recomputed from the public files by this program when the page was made"
            + (
                ", against what was pinned beforehand: nothing is the auctioneer's own word."
                if verdict.trusted
                else "."
            )
        ],
        [
            ("trusted beforehand", pinned),
            ("rules", f"preset {manifest.preset}: {_rules_text(manifest)}, {manifest.rounds:,} rounds"),
            ("parties", f"auctioneer, arbiter, witnesses of the log, auditors: {len(manifest.auditors)}"),
            ("bidders", f"{len(session.seats)} registered, {manifest.seats} seats, {len(manifest.items)} items"),
        ],
        [
            Table(("how many", "what"), rows, "What was checked", numbers(0)),
            Table(("party", "key"), keys, "Keys of the parties", folded=True),
        ],
    )


def _findings(verdict: Verdict, folder: Path) -> list[Section]:
    evidence = folder.with_name(folder.name + ".evidence")
    session = verdict.session
    if not verdict.findings or session is None:
        return []
    rows = []
    for finding in verdict.findings[:LISTED]:
        epoch = session.manifest.epoch_of(finding.round) if finding.round >= 0 else -1
        bundles = [evidence / f"epoch-{epoch}{ending}" for ending in ("", ".zip")]
        file = next((f"{path.parent.name}/{path.name}" for path in bundles if path.exists()), "")
        rows.append(
            (
                f"spec {finding.rule}", "" if finding.round < 0 else str(finding.round), finding.party,
                _told(finding.text, session.manifest), ", ".join(map(str, finding.entries)),
                file or f"run: credible audit {folder.name}",
            )
        )  # fmt: skip
    more = len(verdict.findings) - len(rows)
    notes = [f"{more} more are left out here."] if more > 0 else []
    notes.append(f"Fine units are 2^-{session.manifest.share_bits} of a grid unit, {session.manifest.grid.unit}.")
    table = Table(
        ("rule", "round", "who", "what", "log entries", "evidence"), rows, f"Findings ({len(verdict.findings)})",
        numbers(1),
    )  # fmt: skip
    return [Section("What was found", [], [], [table], notes)]


def _told(text: str, manifest: Manifest) -> str:
    """Return a finding with its money as people count, where it is about a payment."""
    part = re.fullmatch(r"seat (\d+) pays (\d+) fine units, the mechanism charges (\d+)", text)
    if part is None:
        return text
    paid, due = _amount(int(part[2]), manifest), _amount(int(part[3]), manifest)
    return f"the bidder on seat {part[1]} was charged {paid}, the mechanism charges {due} [{text}]"


def _timeline(verdict: Verdict, session: Session) -> Section:
    manifest = session.manifest
    played = [index for index, state in session.rounds.items() if state.outcome is not None] or list(
        range(verdict.checked["outcome statements"])
    )
    drawn = sorted({index for epoch in session.epochs for index in session.drawn(epoch) or ()})
    convicted = sorted({finding.round for finding in verdict.findings if finding.round >= 0})
    shown = {index for index, state in session.rounds.items() if state.response is not None}
    opened = sorted(shown - set(drawn))
    figure, axes = new(width=8.4, height=1.5)
    axes.barh(0, max(played, default=-1) + 1, height=0.9, color=GREY, alpha=0.25)
    # many marks become one picture, or the page would hold a line for each
    thin, many = max(0.4, min(3.0, 400 / max(manifest.rounds, 1))), len(drawn) + len(convicted) > MARKS
    axes.vlines(drawn, -0.45, 0.45, color=COLOURS[0], linewidth=thin, rasterized=many)
    axes.vlines(opened, -0.2, 0.2, color=COLOURS[2], linewidth=thin, rasterized=many)
    style = {"marker": "x", "s": 34, "zorder": 3, "linewidths": 1.6}
    axes.scatter(convicted, [0] * len(convicted), color=COLOURS[1], rasterized=many, **style)
    axes.set(xlim=(-0.5, manifest.rounds - 0.5), yticks=[], xlabel="round")
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    behind = Table(
        ("kind", "rounds"),
        [
            ("played", f"{len(played):,} of {manifest.rounds:,}"),
            ("drawn for audit", _ranges(drawn, 60) or "none"),
            ("opened because a round of their epoch was convicted", _ranges(opened, 60) or "none"),
            ("convicted", _ranges(convicted, 60) or "none"),
        ],
        folded=True,
    )
    caption = "Rounds played (grey), drawn for audit (blue bars), convicted (orange crosses)."
    if opened:
        caption += " After a conviction every round of its epoch is opened and run again (short green bars)."
    return Section("Audits", blocks=[Picture(inline(figure, caption), caption, behind)])


def _deterrence(manifest: Manifest, *, convicted: bool) -> Section:
    """Return what the rule finds and what it deters."""
    audit, money, rules = manifest.audit, manifest.money, _terms(manifest)
    counts = sorted({max(1, round(rules.rounds ** (step / 24))) for step in range(25)})
    deters = _deters(manifest)
    title = "What cheating costs" if convicted else "Why cheating does not pay"
    section = Section(title if deters else "What stands against cheating")
    if audit.mode == "exposure":
        section.lead = [
            "The chance of an audit differs by round; each is high enough for what the round is worth (9.10)."
        ]
        return section
    chances = [float(rules.detection(w)) for w in counts]
    kept = bool(money.penalty) and money.gains == "kept"  # the strategies are computed for gains that are kept
    figure, drawn = new(2 if kept else 1, width=9.2 if kept else 4.8, height=3.2)
    axes = drawn if kept else [drawn]
    axes[0].plot(counts, chances, color=COLOURS[0])
    axes[0].set(xscale="log", ylim=(-0.02, 1.04), xlabel="deviating rounds", ylabel="chance that one is drawn",
                title="What audits find")  # fmt: skip
    if kept:
        _best_curve(rules, axes[1])
    rows = [(f"{w:,}", f"{chance:.4f}") for w, chance in zip(counts, chances, strict=True)]
    behind = Table(("deviating rounds", "chance that one is drawn"), rows, "", numbers(0, 1), folded=True)
    caption = f"The chance that at least one of so many deviating rounds is drawn ({_rules_text(manifest)})."
    if kept:
        caption = (
            f"Left: the chance that a deviating round is drawn ({_rules_text(manifest)}). Right: what the best "
            "strategy would earn if every round could gain the most there is, by the size of the penalty; 1 is this "
            "session's."
        )
    section.blocks = [Picture(inline(figure, caption), caption, behind)]
    section.facts = [
        ("largest gain of one round, g", _amount(money.gain_bound, manifest)),
        ("penalty", _amount(money.penalty, manifest) if money.penalty else "none"),
        ("deposit of the auctioneer", _amount(money.deposit, manifest) if money.deposit else "none"),
        ("gains of deviating rounds", money.gains),
    ]
    if deters:
        section.notes = ["A penalty deters, an audit finds: rare cheating is not always found; on average it loses."]
    elif not money.penalty:
        section.lead = ["Nobody holds a deposit: cheating costs only the verdict, where it is drawn."]
    else:
        section.lead = ["The penalty is smaller than what spec 9 asks for: the best cheat would gain on average."]
    return section


def _terms(manifest: Manifest) -> Terms:
    """Return a manifest's rules as the economics knows them: of one epoch, where k rounds of each are audited."""
    audit, money = manifest.audit, manifest.money
    fixed = audit.mode == "fixed"
    return Terms(
        preset="published" if fixed else "prompt",
        rounds=manifest.epoch_rounds if fixed else manifest.rounds,
        epoch=manifest.epoch_rounds if fixed else min(manifest.epoch_rounds, LONG),
        k=max(audit.k, 1),
        q=Fraction(audit.q_num or 1, audit.q_den),
        lag=audit.lag,
        gain_bound=max(money.gain_bound, 1),
        penalty=money.penalty,
        gains=money.gains,
    )


def _deters(manifest: Manifest) -> bool:
    """Return whether the penalty exceeds what spec 9 asks for, so that no strategy gains on average."""
    money, rules = manifest.money, _terms(manifest)
    if not money.penalty:
        return False
    if manifest.audit.mode == "exposure":
        return True  # a session that holds keeps rule 9.10
    needed = requirement(
        rules.preset, g=money.gain_bound, rounds=rules.rounds, k=rules.k, q=rules.q, lag=rules.lag,
        coins=2**manifest.aborting, gains=money.gains,
    )  # fmt: skip
    return money.penalty >= needed.penalty


def _best_curve(rules: Terms, axes: Any) -> None:
    """Draw what the best strategy earns where every round gains g, by the size of the penalty (spec 9.3, 9.7)."""
    factors = [step / 20 for step in range(31)]
    profits = [worst_case(rules, factor * rules.penalty / rules.gain_bound) for factor in factors]
    axes.plot(factors, profits, color=COLOURS[1])
    axes.axvline(1, color=GREY, linestyle=":", label="the penalty of this session")
    axes.set(ylim=(-0.02 * max(*profits, 1e-9), None), xlabel="penalty / penalty of this session",
             ylabel="profit / largest gain", title="What the best cheat would earn")  # fmt: skip
    axes.legend(loc="center right")


def _money(session: Session) -> Section:
    """Return deposits, and what settlements moved."""
    manifest = session.manifest
    money, rows = manifest.money, []
    for epoch, state in sorted(session.epochs.items()):
        if state.settlement is None:
            continue
        for amount in state.settlement.amounts:
            who = _account(amount.account, session)
            rows.append((str(epoch), type(state.settlement).__name__.lower(), who, _amount(amount.amount, manifest)))
    settled = sum(state.settlement is not None for state in session.epochs.values())
    section = Section(
        "Deposits and payments",
        facts=[
            ("auctioneer's deposit", _amount(money.deposit, manifest) if money.deposit else "none"),
            ("each bidder's deposit", _amount(money.bidder_deposit, manifest) if money.bidder_deposit else "none"),
            ("epochs settled", f"{settled:,} of {manifest.epochs:,}"),
        ],
    )
    if rows:
        section.blocks = [
            Table(("epoch", "kind", "account", "amount"), rows[:LISTED], "What settlements moved", numbers(0, 3))
        ]
    else:
        section.notes = ["No settlement moved a deposit: nobody forfeited anything."]
    return section


def _account(account: str, session: Session) -> str:
    if account == session.auctioneer.party:
        return "auctioneer"
    if account in session.seats:
        return f"bidder on seat {session.seats.index(account)}"
    return account


def _profiles(session: Session) -> list[Section]:
    """Return revenue by who took part, over the disclosed rounds: other rounds' payments stay private."""
    revenue: dict[int, list[int]] = defaultdict(list)
    for state in session.rounds.values():
        if state.response is not None:
            revenue[len(state.response.matrix.seats)].append(sum(state.response.matrix.charge))
    if not revenue:
        return []
    manifest, unit = session.manifest, 1 << session.manifest.share_bits
    rows: list[tuple[str, ...]] = []
    points: list[tuple[int, float, float]] = []
    for present, charged in sorted(revenue.items()):
        mean = sum(charged) / len(charged) / unit
        spread = (sum((value / unit - mean) ** 2 for value in charged) / max(len(charged) - 1, 1)) ** 0.5
        error = spread / len(charged) ** 0.5
        points.append((present, mean, error if len(charged) > 1 else 0.0))
        rows.append((str(present), str(len(charged)), f"{mean:,.1f}", f"{error:,.1f}" if len(charged) > 1 else "-"))
    figure, axes = new(width=5.2, height=2.8)
    axes.errorbar([p for p, _, _ in points], [v for _, v, _ in points], [2 * e for _, _, e in points], fmt="o",
                  color=COLOURS[0], capsize=3)  # fmt: skip
    axes.set(
        xlabel="bidders who took part", ylabel=f"revenue, x {manifest.grid.unit}", xticks=[p for p, _, _ in points]
    )
    axes.set_ylim(bottom=0)
    caption = "Revenue of the disclosed rounds by how many bidders took part (+- 2 standard errors)."
    behind = Table(
        ("bidders", "disclosed rounds", "mean revenue", "standard error"), rows, "", numbers(0, 1, 2, 3), True
    )
    return [Section("Revenue by participation", blocks=[Picture(inline(figure, caption), caption, behind)])]
