"""credible simulate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from credible.cli.common import (
    AuctioneerSpec,
    Audits,
    BidderSpec,
    Chance,
    Context,
    EpochRounds,
    Gains,
    Json,
    Participation,
    Seed,
    SettingName,
    UsageError,
    bar,
    context_of,
    read_input,
    show,
)
from credible.money import format_fine
from credible.records.values import market_values
from credible.simulation.market import Market, Summary, auditor_key_path, stored_root, trust_path
from credible.simulation.setup import Rules, Secrets
from protocol.artifact import Sandbox
from protocol.artifact.header import MAX_BYTES
from protocol.encoding import canonical
from protocol.storage.files import write_file


def simulate(
    file: Annotated[Path, typer.Argument(help="Artifact FILE.onnx.")],
    out: Annotated[Path, typer.Option(help="Session folder to write; SESSION.trust.json goes beside it.")],
    rounds: Annotated[int, typer.Option(help="Rounds T.", min=1, max=100_000)] = 100,
    preset: Annotated[str, typer.Option(help="prompt or published (spec 7.3).")] = "prompt",
    auctioneer: AuctioneerSpec = "honest",
    bidders: BidderSpec = "truthful",
    setting: SettingName = None,
    context: Context = "",
    participation: Participation = 1.0,
    k: Audits = 1,
    q: Chance = "1/10",
    epoch: EpochRounds = 5,
    profile: Annotated[str, typer.Option(help="P1, or P0: the opening comes with the bid (spec 3.9).")] = "P1",
    gains: Gains = "kept",
    valuation: Annotated[
        str, typer.Option(help="additive, or unit_demand: nobody wins two items (spec 3.15).")
    ] = "additive",
    disclosure: Annotated[str, typer.Option(help="public, or auditor: sealed to the auditors (spec 7.7).")] = "public",
    auditors: Annotated[int, typer.Option(help="Auditors; two at least for sealed disclosure.", min=1, max=8)] = 1,
    escalation: Annotated[
        int, typer.Option(help="Rounds of an epoch that auditors may ask for beyond the draw (spec 7.8).", min=0)
    ] = 0,
    witnesses: Annotated[int, typer.Option(help="Witnesses n (spec 4.14).", min=1, max=16)] = 1,
    faulty_witnesses: Annotated[int, typer.Option(help="f of them may be faulty; sets the quorum.", min=0)] = 0,
    mailboxes: Annotated[int, typer.Option(help="Mailboxes that stamp receipts (spec 3.7).", min=0, max=16)] = 0,
    faulty_mailboxes: Annotated[int, typer.Option(help="f_m of them may be faulty.", min=0)] = 0,
    aborting: Annotated[
        int, typer.Option(help="Bidders assumed to abort for the auctioneer, c (spec 5.8).", min=0, max=16)
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted session.")] = False,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Play repeated rounds through the full protocol, audits included."""
    from credible.simulation.agent_scenario import agent_scenario, split_view  # loads numpy
    from credible.simulation.agents import spec_digest

    data = read_input(file, MAX_BYTES)
    options: dict[str, Any] = {
        "aborting": aborting, "auditors": auditors, "disclosure": disclosure, "escalation": escalation,
        "faulty_mailboxes": faulty_mailboxes, "faulty_witnesses": faulty_witnesses, "gains": gains,
        "mailboxes": mailboxes, "profile": profile, "valuation": valuation, "witnesses": witnesses,
    }  # fmt: skip
    config = canonical(
        {
            **options,
            "auctioneer": spec_digest(auctioneer), "bidders": spec_digest(bidders), "command": "simulate",
            "context": context, "epoch": epoch, "k": k,
            "participation": str(participation), "preset": preset, "q": q, "rounds": rounds,
            "seed": "none" if seed is None else str(seed), "setting": setting or "none",
        }
    )  # fmt: skip
    try:
        chance = Fraction(q)
        if not 0 < chance <= 1:
            raise ValueError(f"q is {q}, wanted above 0 and at most 1")
        if preset not in ("prompt", "published"):
            raise ValueError(f"preset is {preset!r}, wanted prompt or published")
        secrets = session_secrets(out, seed, resume=resume)
        with Sandbox(data) as sandbox:
            header = sandbox.header
            agents = secrets.agents()
            rules = Rules(preset, rounds, k=k, q=chance, epoch=epoch, lag=epoch, seeded=seed is not None, **options)
            drawn = market_values(header, setting, participation, agents)
            scenario = agent_scenario(
                header,
                sandbox,
                rules,
                agents,
                values=drawn,
                bidders=bidders,
                auctioneer=auctioneer,
                context=context_of(context, header.context, header.bid_max),
            )
            with Market(out, data, rules, scenario, secrets, config=config, resume=resume) as market:
                with bar("rounds", rounds, quiet=json) as progress:
                    summary = market.run(progress.to)
                penalty = market.manifest.money.penalty
                split = None
                if scenario.players.auctioneer.splits and summary.deviations_made:
                    split = out.with_name(out.name + ".equivocation")
                    write_file(split, split_view(market.table))
                log_key = market.manifest.log
                dropped = sorted(scenario.receipts)
                if dropped:
                    receipt = out.with_name(out.name + ".receipt")
                    write_file(receipt, scenario.receipts[dropped[0]])
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(str(error)) from error
    result = summary_json(out, summary, penalty)
    lines = [
        f"{out}: {summary.rounds} rounds, {summary.audited} audited, {result['rounds_per_second']} rounds/s",
        f"deviations made {summary.deviations_made}, found by audits {summary.deviations_found}, "
        f"seen by a bidder itself {len(summary.tier1)}",
        f"penalty at stake {format_fine(penalty, header.share_bits)} grid units"
        + (f"; halted after round {summary.halted_at}, penalty executed" if summary.halted_at is not None else ""),
        f"verify it: credible verify {out} --trust {trust_path(out)}"
        + (f" --auditor-key {auditor_key_path(out, 0)}" if disclosure == "auditor" else ""),
    ]
    if dropped:
        result["receipt"], result["bids_dropped"] = str(receipt), len(dropped)
        lines.append(
            f"{len(dropped)} bids were dropped; a victim's receipt convicts: credible verify {receipt} "
            f"--against {out}/public --trust {trust_path(out)}"
        )
    if split is not None:
        result["equivocation"] = str(split)
        lines.append(f"two heads of the log were shown: credible log convict {split} --vkey {log_key}")
    show(result, lines, as_json=json)


def session_secrets(out: Path, seed: int | None, *, resume: bool) -> Secrets:
    """Return a session's secrets: the stored ones on resume, derived from the seed, or fresh.

    Raises:
        UsageError: If the folder exists and is not to be resumed, or is to be and does not.
    """
    if resume and not out.exists():
        raise UsageError(f"{out} does not exist: nothing to resume")
    if not resume and out.exists():
        raise UsageError(f"{out} exists; use --resume to go on, or choose another --out")
    root = stored_root(out) if resume else None
    if root is not None:
        return Secrets(root)
    return Secrets.fresh() if seed is None else Secrets.seeded(seed)


def summary_json(out: Path, summary: Summary, penalty: int) -> dict[str, object]:
    """Return the machine-readable summary of a run."""
    rate = summary.played_now / summary.seconds if summary.seconds else 0.0
    result: dict[str, object] = {
        "session": str(out),
        "rounds": summary.rounds,
        "audited": summary.audited,
        "deviations_made": summary.deviations_made,
        "deviations_found": summary.deviations_found,
        "penalty": penalty,
        "penalty_executed": summary.penalty,
        "revenue": summary.revenue,
        "tier1_findings": len(summary.tier1),
        "rounds_per_second": round(rate, 2),
    }
    if summary.halted_at is not None:
        result["halted_at"] = summary.halted_at
    return result
