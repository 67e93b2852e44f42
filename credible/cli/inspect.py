"""credible inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from credible.cli.common import DEVIATION, INCONCLUSIVE, Json, read_input, show
from protocol.artifact import Sandbox
from protocol.artifact.header import MAX_BYTES


def inspect(
    file: Annotated[Path, typer.Argument(help="Artifact FILE.onnx.")],
    certify: Annotated[
        bool, typer.Option("--certify", help="Prove the mechanism's class: exit 0 proved, 1 false, 4 no certificate.")
    ] = False,
    prices: Annotated[
        bool, typer.Option("--prices", help="Show what a lone bidder would pay for each menu entry.")
    ] = False,
    json: Json = False,
) -> None:
    """Check an artifact statically, prove it exact, show its digests.

    `--certify` proves its class from the file alone.
    """
    data = read_input(file, MAX_BYTES)
    with Sandbox(data) as sandbox:
        summary, header = sandbox.summary, sandbox.header
    rows = Table("property", "value", title=escape(str(file)), show_header=False)
    for name, value in (
        ("class", header.kind),
        ("bidders x items", f"{header.bidders} x {header.items}"),
        ("grid", f"0 to {header.bid_max:,} units of {header.unit}; shares in 2^-{header.share_bits}"),
        ("context", ", ".join(header.context) or "none"),
        ("ties, rounding", f"{header.ties}, {header.rounding}"),
        ("file SHA-256", summary.file_sha256),
        ("mechanism digest", summary.mechanism_digest),
        ("graph digest", summary.graph_digest),
        ("exactness proof", f"every float64 below 2^{summary.max_bits}, for all int64 inputs"),
        ("certified", "yes" if summary.certified else "no"),
        ("rests on", summary.theorem or "nothing: this class has no certificate of truthfulness"),
        *((("problem", text)) for text in summary.problems),
    ):
        rows.add_row(name, escape(value))
    if prices:
        _price_list(data, rows)
    result = {
        "file_sha256": summary.file_sha256,
        "mechanism_digest": summary.mechanism_digest,
        "graph_digest": summary.graph_digest,
        "class": header.kind,
        "certified": summary.certified,
        "bidders": header.bidders,
        "items": header.items,
        "proof": {"max_bits": summary.max_bits},
        "problems": summary.problems,
    }
    show(result, rows, as_json=json)
    if certify and not summary.certified:
        raise typer.Exit(DEVIATION if summary.problems else INCONCLUSIVE)


def _price_list(data: bytes, rows: Table) -> None:
    """Add what seat 0 pays for each menu entry if it bids alone.

    Max over entries without it minus the entry's boost.
    """
    from protocol.artifact.static import check

    artifact = check(data)
    if "menu" not in artifact.parameters:
        rows.add_row("price list", "only menus have one")
        return
    menu, boosts, weights = (artifact.parameters[name] for name in ("menu", "boosts", "weights"))
    best = int(boosts.max())
    for index in range(min(len(menu), 40)):
        price = (best - int(boosts[index])) // int(weights[0]) / artifact.header.unit_share
        rows.add_row(f"seat 0 alone, entry {index}", f"shares {menu[index, 0].tolist()} for {price:,.3f} units")
