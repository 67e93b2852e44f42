"""credible report."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from credible.cli.common import Json, read_input, show
from protocol.errors import MalformedError
from protocol.storage.files import write_file


def report(
    paths: Annotated[list[Path], typer.Argument(help="Session folders; SESSION.trust.json beside one pins it.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file to write.")] = Path("report.html"),
    evaluation: Annotated[Path | None, typer.Option(help="What `evaluate --json` printed, to show with it.")] = None,
    title: Annotated[str, typer.Option(help="Heading.")] = "credible: verified auction sessions",
    json: Json = False,
) -> None:
    """Write one HTML file with verdicts, findings and figures; it opens offline."""
    from credible.reports.html import build_report, read_session
    from credible.simulation.market import trust_path

    figures = None
    if evaluation is not None:
        try:
            figures = json_module.loads(read_input(evaluation, 1 << 20))
        except ValueError as error:
            raise MalformedError(f"{evaluation}: not JSON: {error}") from error
        if not isinstance(figures, dict) or "baselines" not in figures or "revenue" not in figures:
            raise MalformedError(f"{evaluation}: not what `credible evaluate --json` prints")
    sessions = []
    for path in paths:
        if not path.is_dir():
            raise MalformedError(f"{path}: no such folder")
        trust = trust_path(path)
        sessions.append(read_session(path, trust if trust.is_file() else None))
    write_file(output, build_report(title, sessions, figures).encode("utf-8"))
    lines = [f"{output}: {len(sessions)} sessions"]
    show({"report": str(output), "sessions": [page.name for page in sessions]}, lines, as_json=json)
