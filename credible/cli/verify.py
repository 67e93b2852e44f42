"""credible verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from credible.cli.common import Json, UsageError, read_input, show
from protocol.encoding import MAX_STATEMENT, bytes_from_hex, hash_from_hex
from protocol.errors import MalformedError
from protocol.receipts import verify_receipts
from protocol.storage.files import read_file
from protocol.verify import Aids, Trust, Verdict, verify_path


def verify(
    path: Annotated[Path, typer.Argument(help="Session or public folder, bundle (folder or .zip), or a receipt.")],
    trust: Annotated[Path | None, typer.Option(help="Trust file: what you pin; nothing in PATH is trusted.")] = None,
    at: Annotated[int | None, typer.Option(help="Judge freshness at this time, seconds since 1970.")] = None,
    against: Annotated[Path | None, typer.Option(help="Public folder of the log, for a receipt.")] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="More receipts for the same statement, or the statement; repeatable.")
    ] = None,
    auditor_key: Annotated[
        Path | None, typer.Option(help="Auditor's X25519 key, 64 hex digits, for what is sealed to it (spec 7.7).")
    ] = None,
    beacon: Annotated[
        list[str] | None, typer.Option(help="ROUND:SIGNATURE of drand quicknet that the log lacks; repeatable.")
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
    if path.is_file() and path.suffix != ".zip":
        if pinned is None:
            raise UsageError("a receipt is judged by what you pin: give --trust FILE")
        files = [read_file(file, MAX_STATEMENT + 1) for file in (path, *(beside or []))]
        verdict = verify_receipts(files, pinned, against)
    else:
        aids = Aids(pinned, at, _seal_key(auditor_key), dict(map(_beacon, beacon or [])))
        verdict = verify_path(path, aids=aids)
    show(verdict_json(verdict), verdict_lines(path, verdict), as_json=json)
    if verdict.status:
        raise typer.Exit(verdict.status)


def _seal_key(path: Path | None) -> X25519PrivateKey | None:
    if path is None:
        return None
    text = read_input(path, MAX_STATEMENT).decode("ascii", "replace").strip()
    return X25519PrivateKey.from_private_bytes(hash_from_hex(text, f"{path}: auditor key"))


def _beacon(text: str) -> tuple[int, bytes]:
    number, _, signature = text.partition(":")
    if not number.isascii() or not number.isdigit() or not 0 < int(number) < 1 << 64:
        raise UsageError(f"beacon {text[:40]!r}, wanted ROUND:SIGNATURE")
    return int(number), bytes_from_hex(signature, "beacon signature")


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
    if verdict.status in (0, 1):  # spec 1.8
        outcomes, again = checked.get("outcome statements", 0), checked.get("rounds re-executed", 0)
        if again < outcomes:
            lines.append(f"not re-executed: {outcomes - again:,} of {outcomes:,} rounds (spec 1.5)")
        lines.append("not shown: truth of values, collusion, blind shill bidders, delivery (docs/limits.md)")
    if verdict.labels:
        lines += ["labels:", *(f"  {label}" for label in verdict.labels)]  # a line each: none can pose as another
    return lines
