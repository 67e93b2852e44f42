"""credible verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from credible.cli.common import Json, UsageError, show
from protocol.encoding import MAX_STATEMENT
from protocol.errors import MalformedError
from protocol.storage.files import read_file
from protocol.verify import Trust, Verdict, verify_path, verify_receipts


def verify(
    path: Annotated[Path, typer.Argument(help="Session folder, public folder, evidence bundle, or a receipt.")],
    trust: Annotated[Path | None, typer.Option(help="Trust file: what you pin; nothing in PATH is trusted.")] = None,
    at: Annotated[int | None, typer.Option(help="Judge freshness at this time, seconds since 1970.")] = None,
    against: Annotated[Path | None, typer.Option(help="Public folder of the log, for a receipt.")] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="More receipts for the same statement, or the statement; repeatable.")
    ] = None,
    json: Json = False,
) -> None:
    """Judge a session, bundle or receipt, offline; reads nothing else, never writes."""
    if not path.exists():
        raise MalformedError(f"{path}: no such file or folder")
    try:
        pinned = Trust.read(trust) if trust is not None else None
    except FileNotFoundError as error:
        raise MalformedError(f"{trust}: no such file") from error
    if path.is_file():
        if pinned is None:
            raise UsageError("a receipt is judged by what you pin: give --trust FILE")
        files = [read_file(file, MAX_STATEMENT + 1) for file in (path, *(beside or []))]
        verdict = verify_receipts(files, pinned, against)
    else:
        verdict = verify_path(path, pinned, at)
    show(verdict_json(verdict), verdict_lines(path, verdict), as_json=json)
    if verdict.status:
        raise typer.Exit(verdict.status)


def verdict_json(verdict: Verdict) -> dict[str, object]:
    """Return a verdict as a JSON object."""
    return {
        "verdict": verdict.verdict,
        "trusted": verdict.trusted,
        "checked": dict(sorted(verdict.checked.items())),
        "findings": [
            {"rule": f.rule, "round": f.round, "party": f.party, "text": f.text, "entries": list(f.entries)}
            for f in verdict.findings
        ],
        "notes": verdict.notes,
        "labels": verdict.labels,
    }


def verdict_lines(path: Path, verdict: Verdict) -> list[str]:
    """Return a verdict in words."""
    checked = verdict.checked
    lines = [f"{path}: {verdict.verdict.upper()}" + ("" if verdict.trusted else " (not trusted)")]
    lines += verdict.notes
    for finding in verdict.findings:
        where = f"round {finding.round}: " if finding.round >= 0 else ""
        lines.append(f"  spec {finding.rule}, {where}{finding.party}: {finding.text} (entries {list(finding.entries)})")
    if checked:
        lines.append("checked: " + ", ".join(f"{count:,} {name}" for name, count in sorted(checked.items()) if count))
    if verdict.labels:
        lines.append("labels: " + "; ".join(verdict.labels))
    return lines
