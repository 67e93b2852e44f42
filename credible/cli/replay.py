"""credible replay."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from credible.cli.common import Json, Seed, UsageError, bar, read_input, show
from credible.cli.simulate import session_secrets
from credible.records.replay import Replay, explain
from credible.records.tsuchiura import load
from credible.simulation.market import Market, trust_path
from credible.simulation.setup import Rules
from protocol.artifact import Sandbox
from protocol.artifact.header import MAX_BYTES
from protocol.encoding import canonical


def replay(
    records: Annotated[Path, typer.Argument(help="Procurement record: bids.csv or its folder.")],
    out: Annotated[Path, typer.Option(help="Session folder to write; SESSION.trust.json goes beside it.")],
    mechanism: Annotated[
        Path | None, typer.Option(help="Artifact of the announced rule; built for the record if left out.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first auctions of the record.", min=1)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted replay.")] = False,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Commit, open, execute and audit real recorded auctions; list what the announced rule does not explain."""
    auctions = load(records)[:limit]
    if not auctions:
        raise UsageError(f"{records}: no auction in it")
    scenario = Replay(auctions)
    data = read_input(mechanism, MAX_BYTES) if mechanism is not None else scenario.build_rule().data
    source = str(records.resolve())[-200:].encode("ascii", "replace").decode("ascii")
    config = canonical({"command": "replay", "limit": str(limit), "records": source, "seed": str(seed)})
    rounds = len(auctions)
    try:
        secrets = session_secrets(out, seed, resume=resume)
        with Sandbox(data) as sandbox:
            header = sandbox.header
        if header.context != ["reserve", "minimum"] or header.bidders < len(scenario.seats):
            raise ValueError(
                f"the record needs a procurement rule with context reserve, minimum and {len(scenario.seats)} seats; "
                f"the artifact is {header.kind} with context {header.context} and {header.bidders} seats"
            )
        if header.bid_max < scenario.bid_max:
            raise ValueError(
                f"the artifact's largest bid is {header.bid_max}, the record has a reserve of {scenario.bid_max}"
            )
        rules = Rules(
            "record", rounds, k=rounds, draw="recorded", charge="realised",
            label=f"replay of {records.name or 'a record'}", seeded=seed is not None,
            largest_round=max(len(auction.bids) for auction in auctions),
        )  # fmt: skip
        with Market(out, data, rules, scenario, secrets, config=config, resume=resume, keep=True) as market:
            with bar("auctions", rounds, quiet=json) as progress:
                summary = market.run(progress.to)
            findings = market.audit_findings()
            voids = sum(len(state.voids) for state in market.session.rounds.values())
    except ValueError as error:
        raise UsageError(str(error)) from error
    exceptions, classes = explain(scenario, findings)
    lines = [
        f"{out}: {summary.rounds} recorded auctions replayed and audited, "
        f"{summary.rounds - len(exceptions)} explained by the announced rule, {len(exceptions)} not",
        "classes: " + ", ".join(f"{name} {count}" for name, count in sorted(classes.items())),
        f"void bids (no price recorded, or a price above the reserve): {voids}",
        *(f"  round {item.round} (auction {item.auction}): {item.kind}: {item.reason}" for item in exceptions),
        f"verify it: credible verify {out} --trust {trust_path(out)}",
    ]
    result = {
        "session": str(out),
        "rounds": summary.rounds,
        "explained": summary.rounds - len(exceptions),
        "exceptions": [asdict(item) for item in exceptions],
        "classes": classes,
        "voids": voids,
        "rounds_per_second": round(summary.played_now / summary.seconds, 2) if summary.seconds else 0.0,
    }
    show(result, lines, as_json=json)
