"""credible penalty."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from credible.cli.common import Json, UsageError, need_new, read_input, show
from protocol.artifact import RoundInput, Sandbox
from protocol.artifact.header import MAX_BYTES
from protocol.penalties import (
    auctioneer_regret,
    audits_needed,
    best_audits,
    best_rate,
    detection_fixed,
    detection_independent,
    gain_bound,
    requirement,
)

SEARCHED_CELLS: Final = 1 << 18  # bids in all profiles of the search


def penalty(
    file: Annotated[Path | None, typer.Argument(help="Artifact FILE.onnx, whose support gives the gain bound.")] = None,
    preset: Annotated[str, typer.Option(help="prompt or published (spec 7.3).")] = "prompt",
    gain: Annotated[
        int | None, typer.Option(help="Gain bound g of one round, fine units, without an artifact.", min=0)
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds T.", min=1)] = 100,
    k: Annotated[int, typer.Option(help="Rounds audited, for published.", min=1)] = 1,
    q: Annotated[str, typer.Option(help="Chance of an audit, for prompt, as a fraction.")] = "1/10",
    lag: Annotated[int, typer.Option(help="Rounds until the verdict L, for prompt.", min=0)] = 5,
    aborting: Annotated[
        int, typer.Option(help="Bidders assumed to abort for the auctioneer, c (spec 5.8).", min=0, max=16)
    ] = 0,
    gains: Annotated[str, typer.Option(help="kept or returned: what happens to detected gains (spec 9.2).")] = "kept",
    audit_cost: Annotated[int, typer.Option(help="Cost of one audit, fine units; 0: not asked.", min=0)] = 0,
    capital: Annotated[
        str, typer.Option(help="Cost of holding one unit for a session or epoch, a fraction.")
    ] = "1/100",
    plot: Annotated[Path | None, typer.Option(help="FILE.svg, .png or .pdf to draw the trade-off into.")] = None,
    json: Json = False,
) -> None:
    """Compute the penalty and the deposit with which cheating does not pay, and the chance to detect it."""
    if plot is not None:
        need_new(plot)
        if plot.suffix not in (".svg", ".png", ".pdf"):
            raise UsageError(f"{plot}: wanted a name that ends in .svg, .png or .pdf")
    if (file is None) == (gain is None):
        raise UsageError("give an artifact, or --gain, and not both")
    if file is not None:
        with Sandbox(read_input(file, MAX_BYTES)) as sandbox:
            header = sandbox.header
            found, searched = _largest_regret(sandbox)
        g = gain_bound(header.items, header.bid_max, header.share_bits)
    else:
        g, found, searched = gain or 0, 0, 0
    try:
        chance = Fraction(q)
        if not 0 < chance <= 1 or k > rounds:
            raise ValueError(f"q is {q} and k {k} of {rounds}: wanted 0 < q <= 1 and k <= T")
        interest = Fraction(capital)
        needed = requirement(preset, g=g, rounds=rounds, k=k, q=chance, lag=lag, coins=2**aborting, gains=gains)
        cheapest = _cheapest(preset, rounds, g, interest, audit_cost) if audit_cost else None
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(str(error)) from error
    deviating = sorted({w for w in (1, max(1, rounds // 100), max(1, rounds // 10), rounds) if w <= rounds})
    detection = {
        str(w): float(detection_fixed(rounds, k, w) if preset == "published" else detection_independent(chance, w))
        for w in deviating
    }
    table = Table("quantity", "value", title=f"preset {preset}, spec {needed.rule}, money in fine units")
    table.add_row("largest gain of one round, g", f"{g:,}")
    if searched:
        table.add_row(
            f"  found on the artifact, in {searched:,} profiles", f"{found:,} ({found / g:.2f} g)" if g else "0"
        )
    table.add_row("penalty, at least", f"{needed.penalty:,}")
    table.add_row("deposit, at least", f"{needed.deposit:,}")
    table.add_row("penalty / g", f"{needed.penalty / g:.2f}" if g else "-")
    for w, chance_found in detection.items():
        table.add_row(f"chance to catch {w} deviating rounds", f"{chance_found:.4f}")
    if preset == "published":
        most = max(deviating)
        table.add_row(
            f"audits to catch {most} of {rounds} with 95 %", str(audits_needed(rounds, most, Fraction(1, 20)))
        )
    for name, value in (cheapest or {}).items():
        table.add_row(f"cheapest {name} for audits at {audit_cost:,} and capital at {capital}", value)
    if plot is not None:
        from credible.reports.deterrence import draw

        draw(plot, needed, rounds, k, chance, lag)
    result = {
        "preset": preset,
        "cheapest": cheapest or {},
        "plot": str(plot or ""),
        "gain_bound": g,
        "gain_found": found if searched else None,
        "required_penalty": needed.penalty,
        "required_deposit": needed.deposit,
        "detection": detection,
        "rule": needed.rule,
    }
    show(result, table, as_json=json)


def _largest_regret(sandbox: Sandbox) -> tuple[int, int]:
    """Return the largest auctioneer regret found on an artifact, and the profiles tried (spec 9.11).

    A lower bound on what a deviating round can gain; g is the upper one. Tried are the corners of the support (all of
    them where there are at most 512, else some), and as many profiles inside.
    """
    header, source = sandbox.header, random.Random(1)  # noqa: S311 - a search, no secret
    cells = header.bidders * header.items
    limit = max(1, min(512, SEARCHED_CELLS // cells))
    every = 2**cells <= limit
    corners = range(2**cells) if every else (source.getrandbits(cells) for _ in range(limit))
    flat = [[header.bid_max * (corner >> cell & 1) for cell in range(cells)] for corner in corners]
    flat += [[source.randint(0, header.bid_max) for _ in range(cells)] for _ in range(len(flat))]
    # one bidder alone at the top leaves a second price or a threshold furthest behind
    flat += [
        [header.bid_max * (cell // header.items == seat) for cell in range(cells)] for seat in range(header.bidders)
    ]
    rounds = [
        RoundInput(
            bids=[row[seat * header.items : (seat + 1) * header.items] for seat in range(header.bidders)],
            participation=[1] * header.bidders,
            context=[header.bid_max] * len(header.context),
        )
        for row in flat
    ]
    outputs = sandbox.run(rounds)
    regrets = [
        auctioneer_regret(item.bids, output.payment, header.share_bits)
        for item, output in zip(rounds, outputs, strict=True)
    ]
    return max(regrets), len(regrets)


def _cheapest(preset: str, rounds: int, g: int, capital: Fraction, audit: int) -> dict[str, str]:
    """Return the audit rate that costs least for audits and capital together (spec 9.9)."""
    if preset == "published":
        return {"k, gains returned": str(best_audits(rounds, g, capital, audit))}
    return {f"q in epochs of {rounds} rounds": str(best_rate(rounds, g, capital, audit))}
