"""credible plot."""

from __future__ import annotations

import os
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Annotated

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
    context_of,
    read_input,
    show,
)
from protocol.artifact.header import MAX_BYTES

QUESTIONS = (
    "deterrence",
    "region",
    "detection",
    "audit-cost",
    "learning",
    "shills",
    "participation",
    "settlement",
    "best",
)
SEVERAL = ("learning", "shills", "participation")  # compare mechanisms


def plot(
    question: Annotated[str, typer.Argument(help=", ".join(QUESTIONS))],
    files: Annotated[list[Path], typer.Argument(help="Artifacts; learning, shills, participation compare several.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.svg, FILE.pdf or FILE.png.")],
    sessions: Annotated[int, typer.Option(help="Markets for each figure.", min=2, max=10**7)] = 400,
    session: Annotated[int, typer.Option(help="Rounds of one market, T.", min=1, max=1_000_000)] = 200,
    preset: Annotated[str, typer.Option(help="prompt or published.")] = "prompt",
    auctioneer: AuctioneerSpec = "inflate:0.1",
    bidders: BidderSpec = "truthful",
    setting: SettingName = None,
    context: Context = "",
    participation: Participation = 1.0,
    k: Audits = 10,
    q: Chance = "1/10",
    epoch: EpochRounds = 5,
    gains: Gains = "kept",
    audit: Annotated[str, typer.Option(help="Cost of one audit in units of g, for audit-cost.")] = "1/100",
    capital: Annotated[str, typer.Option(help="Cost of holding a deposit, a share of it, for audit-cost.")] = "1/50",
    processes: Processes = 1,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Answer a question about a market with a figure: play it, draw what happened, print the numbers."""
    from credible.records.values import market_values
    from credible.reports.figures import draw
    from credible.reports.style import FORMATS, save
    from credible.simulation import questions
    from credible.simulation.agents import terms
    from credible.simulation.setup import Secrets
    from protocol.artifact.engine import Engine

    if question not in QUESTIONS:
        raise UsageError(f"question {question!r}, wanted one of {', '.join(QUESTIONS)}")
    if len(files) > 1 and question not in SEVERAL:
        raise UsageError(f"{question} is asked of one artifact, got {len(files)}")
    if preset not in ("prompt", "published"):
        raise UsageError(
            f"preset is {preset!r}, wanted prompt or published; deterrence shows the default market beside"
        )
    if output.suffix not in FORMATS:
        raise UsageError(f"{output} is to hold a figure, wanted a name that ends in {', '.join(FORMATS)}")
    secret = (Secrets.fresh() if seed is None else Secrets.seeded(seed)).agents()
    try:
        asked = []
        for file in files:
            data = read_input(file, MAX_BYTES)
            header = Engine(data).artifact.header
            rules = terms(preset, header, session, k=k, q=Fraction(q), epoch=epoch, gains=gains)
            values = market_values(header, setting, participation, secret)
            asked.append(
                questions.Asked(
                    file.stem,
                    data,
                    header,
                    rules,
                    values,
                    bidders,
                    secret,
                    sessions,
                    processes or os.cpu_count() or 1,
                    context_of(context, header.context, header.bid_max),
                )
            )
        if question in SEVERAL:
            answer = questions.QUESTIONS[question](asked)
        elif question == "audit-cost":
            answer = questions.audit_cost(asked[0], audit=Fraction(audit), capital=Fraction(capital))
        elif question == "settlement":
            answer = questions.settlement(asked[0], auctioneer=auctioneer)
        else:
            answer = questions.QUESTIONS[question](asked[0])
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(str(error)) from error
    save(draw(answer), output)
    result = {**asdict(answer), "figure": str(output)}
    lines = [answer.title, *_table(answer.rows), *answer.notes, f"figure: {output}"]
    show(result, lines, as_json=json)


def _table(rows: list[dict[str, object]], most: int = 20) -> list[str]:
    """Return rows as aligned text; lists, and rows beyond some, are left to --json."""
    names = [name for name, value in rows[0].items() if not isinstance(value, list)]
    shown = rows if len(rows) <= most else rows[:: -(-len(rows) // most)]
    cells = [names, *([_cell(row[name]) for name in names] for row in shown)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
