"""credible attacks."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from credible.cli.common import Json, UsageError, show


def attacks(
    only: Annotated[list[str] | None, typer.Argument(help="Rows to play, such as A1; all if left out.")] = None,
    seed: Annotated[int, typer.Option(help="Everything is drawn from it.", min=0)] = 5,
    json: Json = False,
) -> None:
    """Play every attack of the specification's catalogue and show what comes of it; exit 1 if one is not as stated."""
    from credible.simulation.attacks import Stage
    from credible.simulation.attacks import attacks as catalogue

    known = {item.id: item for item in catalogue()}
    unknown = [name for name in only or [] if name not in known]
    if unknown:
        raise UsageError(f"attack {unknown[0]!r}, wanted one of A1 to A{len(known)}")
    rows, failed = [], 0
    table = Table("id", "who", "attack", "what happens", "rule", "evidence", title="docs/spec.md, section 10")
    with tempfile.TemporaryDirectory() as scratch:
        stage = Stage(Path(scratch), seed)
        for item in (known[name] for name in only or known):
            try:
                seen = item.run(stage)
                row = {"status": seen.status, "rule": seen.rule, "evidence": seen.evidence, **seen.figures}
                failed += not seen.baseline
            except LookupError as error:
                row, failed = {"status": "failed", "rule": "", "evidence": str(error)}, failed + 1
            rows.append({"id": item.id, "who": item.who, "attack": item.name, "text": item.text, **row})
            table.add_row(item.id, item.who, item.text, *(str(row[name]) for name in ("status", "rule", "evidence")))
    show({"rows": rows}, table, as_json=json)
    if failed:
        raise typer.Exit(1)
