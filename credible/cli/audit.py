"""credible audit."""

from __future__ import annotations

import json as json_module
import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from credible.cli.common import Json, UsageError, need_new, show
from credible.cli.verify import verdict_json
from protocol import messages as m
from protocol.bundle import write_bundle
from protocol.evidence import round_regrets
from protocol.storage.archive import pack
from protocol.storage.files import read_file, write_file
from protocol.verify import MAX_FILE, NOT_TRUSTED, VERDICT_FILE, Verdict, load_public, verify_path


def audit(
    session: Annotated[Path, typer.Argument(help="Session folder, or its public folder.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the evidence bundles; SESSION.evidence if left out.")
    ] = None,
    epoch: Annotated[list[int] | None, typer.Option(help="Only these epochs.")] = None,
    zip_: Annotated[bool, typer.Option("--zip", help="One .zip file per bundle instead of a folder.")] = False,
    json: Json = False,
) -> None:
    """Draw the audited rounds again, re-execute what was disclosed, write one evidence bundle per epoch."""
    public = session / "public" if (session / "public").is_dir() else session
    target = out or session.with_name(session.name + ".evidence")
    need_new(target)
    loaded = load_public(public, None)
    known = set()
    for _, entry in loaded.entries:
        body = m.Statement.decode(entry).body
        if isinstance(body, m.VerdictStatement):
            known.add(body.epoch)
    wanted = sorted(known) if not epoch else sorted(set(epoch))
    if set(wanted) - known:
        raise UsageError(f"no verdict is logged on epoch {', '.join(map(str, sorted(set(wanted) - known)))}")
    rows = Table("epoch", "entries", "rounds re-executed", "findings", "could have gained, mean and largest", "bundle")
    bundles = []
    worst = 0
    for number in wanted:
        folder = target / f"epoch-{number}"
        count = write_bundle(public, loaded, number, folder)
        verdict = verify_path(folder)
        result = verdict_json(verdict)
        write_file(folder / VERDICT_FILE, (json_module.dumps(result, indent=1) + "\n").encode("utf-8"))
        if zip_:
            names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
            archive = pack({name: read_file(folder / name, MAX_FILE) for name in names})
            shutil.rmtree(folder)
            folder = folder.with_suffix(".zip")
            write_file(folder, archive)
        rounds = verdict.checked["rounds re-executed"]
        regret = _regret(verdict, number)
        bound = regret.get("bound", 0)
        shown = f"{regret['mean'] / bound:.3f} g, {regret['largest'] / bound:.3f} g" if bound else "-"
        rows.add_row(str(number), str(count), str(rounds), str(len(verdict.findings)), shown, str(folder))
        bundles.append({"epoch": number, "bundle": str(folder), **result, "auctioneer_regret": regret})
        if verdict.verdict != "inconclusive" or verdict.notes != [NOT_TRUSTED]:  # an audit pins nothing itself
            worst = verdict.status if worst != 1 else worst
    show({"bundles": bundles}, rows, as_json=json)
    if worst:
        raise typer.Exit(worst)


def _regret(verdict: Verdict, epoch: int) -> dict[str, float]:
    """Return what the auctioneer left on the table in the disclosed rounds, fine units (spec 9.11)."""
    session = verdict.session
    regrets = round_regrets(session, session.manifest.rounds_of(epoch)) if session is not None else {}
    if session is None or not regrets:
        return {}
    mean, largest = sum(regrets.values()) / len(regrets), max(regrets.values())
    return {"mean": mean, "largest": largest, "bound": session.manifest.money.gain_bound}
