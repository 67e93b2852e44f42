"""credible market."""

from __future__ import annotations

import math
import os
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
    Processes,
    Seed,
    SettingName,
    UsageError,
    bar,
    context_of,
    read_input,
    show,
)
from protocol.artifact.header import MAX_BYTES


def market(
    file: Annotated[Path, typer.Argument(help="Artifact FILE.onnx.")],
    rounds: Annotated[int, typer.Option(help="Rounds of all markets together.", min=1, max=10**12)] = 1_000_000,
    session: Annotated[int, typer.Option(help="Rounds of one market, T.", min=1, max=1_000_000)] = 1000,
    preset: Annotated[str, typer.Option(help="prompt, published, or default: neither log nor audit.")] = "prompt",
    auctioneer: AuctioneerSpec = "honest",
    bidders: BidderSpec = "truthful",
    setting: SettingName = None,
    context: Context = "",
    participation: Participation = 1.0,
    k: Audits = 1,
    q: Chance = "1/10",
    epoch: EpochRounds = 5,
    gains: Gains = "kept",
    factor: Annotated[str, typer.Option(help="Multiplies the penalty that spec 9 asks for, as a fraction.")] = "1",
    out: Annotated[Path | None, typer.Option(help="File of finished blocks; the same command goes on from it.")] = None,
    processes: Processes = 0,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Play millions of rounds through the exact artifact with the same agents, without the messages.

    Markets of T rounds run side by side; means come with standard errors over markets.
    """
    from credible.records.values import market_values
    from credible.simulation.agents import terms
    from credible.simulation.campaign import Plan, play
    from credible.simulation.setup import Secrets
    from protocol.artifact.engine import Engine

    data = read_input(file, MAX_BYTES)
    if out is not None and seed is None:
        raise UsageError("--out needs --seed: a run that goes on must draw what it drew")
    secret = (Secrets.fresh() if seed is None else Secrets.seeded(seed)).agents()
    header = Engine(data).artifact.header
    session = min(session, rounds)
    try:
        rules = terms(preset, header, session, k=k, q=Fraction(q), epoch=epoch, gains=gains, factor=Fraction(factor))
        values = market_values(header, setting, participation, secret)
        plan = Plan(
            data, rules, values, bidders, auctioneer, secret, -(-rounds // session),
            context=context_of(context, header.context, header.bid_max),
        )  # fmt: skip
        with bar("rounds", plan.sessions * session, quiet=json) as progress:
            totals, seconds, peak = play(
                plan, processes=processes or os.cpu_count() or 1, state=out, progress=progress.to
            )
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(str(error)) from error
    result = summary(totals, header.share_bits, seconds, peak)
    result |= {"unit": header.unit, "penalty": rules.penalty / (1 << header.share_bits), "preset": preset}
    show(result, lines(result, auctioneer, bidder_names(bidders, header.bidders)), as_json=json)


def summary(totals: Any, share_bits: int, seconds: float, peak: int) -> dict[str, Any]:
    """Return the figures of a market; money in grid units."""
    sums, one = totals.sums, 1 << share_bits
    played = max(sums["rounds"], 1)
    each: dict[str, float | None] = {}
    for name, key in (("revenue", "revenue"), ("welfare", "welfare"), ("profit", "auctioneer_profit")):
        mean, error = totals.mean(name, share_bits)
        each[key], each[f"{key}_se"] = mean, None if math.isnan(error) else error
    return {
        "rounds": sums["rounds"],
        "sessions": totals.sessions,
        "seconds": round(seconds, 3),
        "rounds_per_second": round(sums["rounds"] / seconds) if seconds else 0,
        "revenue": sums["revenue"] / one,
        "welfare": sums["welfare"] / one,
        "auctioneer_profit": sums["profit"] / one,
        "peak_rss_bytes": peak,
        "revenue_per_round": sums["revenue"] / one / played,
        "welfare_per_round": sums["welfare"] / one / played,
        "bidder_utility_per_round": [earned / one / played for earned in totals.utility],
        "per_session": each,
        "deviations": sums["deviations"],
        "seen_by_bidders": sums["seen"],
        "audited": sums["audited"],
        "sessions_halted": sums["caught"],
        "penalties": sums["penalty"] / one,
        "returned": sums["returned"] / one,
        "forfeited_by_bidders": sums["forfeited"] / one,
    }


def bidder_names(spec: str, seats: int) -> list[str]:
    """Return what to call the bidders of a spec, in seat order."""
    from credible.simulation.agents import bidder_agents

    parts = [part.strip().partition("*")[0] for part in spec.split(",")]
    made = bidder_agents(spec, seats)
    if len(parts) == 1:
        return [parts[0] if len(made) == 1 else f"{parts[0]} {number + 1}" for number in range(len(made))]
    return [f"{type(bidder).__name__} {number + 1}" for number, bidder in enumerate(made)]


def lines(result: dict[str, Any], auctioneer: str, names: list[str]) -> list[str]:
    """Return a market's figures for people."""
    each = result["per_session"]
    profit, error = each["auctioneer_profit"], each["auctioneer_profit_se"]
    clear = error is not None and abs(profit) > 3 * error
    verdict = ("pays" if profit > 0 else "does not pay") if clear else "earns what so few markets cannot tell from 0"
    told = [
        f"{result['rounds']:,} rounds in {result['sessions']:,} markets, {result['seconds']:.1f} s "
        f"({result['rounds_per_second']:,} rounds/s), peak memory {result['peak_rss_bytes'] / 2**20:,.0f} MiB",
        f"revenue per round {result['revenue_per_round']:,.1f}, welfare {result['welfare_per_round']:,.1f}, "
        f"in units of {result['unit']}",
        "earned per round: "
        + ", ".join(
            f"{name} {earned:,.1f}" for name, earned in zip(names, result["bidder_utility_per_round"], strict=True)
        ),
    ]
    if result["sessions_halted"]:
        told[0] += f"; {result['sessions_halted']:,} markets were halted by a conviction before their last round"
    if auctioneer != "honest" and not result["deviations"]:
        told.append(f"{auctioneer}: no round deviates; at this penalty honesty earns more")
    if result["deviations"]:
        told.append(
            f"cheating {verdict}: {profit:,.0f} +- {'?' if error is None else format(error, ',.0f')} a market, "
            f"{result['deviations']:,} rounds deviate, {result['sessions_halted']:,} markets halted, penalty "
            f"{result['penalty']:,.0f}"
        )
    return told
