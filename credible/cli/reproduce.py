"""credible reproduce."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import msgspec
import typer

from credible.cli.common import Json, UsageError, err, need_new, out, show

if TYPE_CHECKING:
    from rich.table import Table

    from credible.reproduce import Row


def reproduce(
    paper: Annotated[
        str, typer.Argument(help="lottery-ama, ca-ama, credible-auctions, regretnet-local or auction-mech.")
    ],
    quick: Annotated[bool, typer.Option("--quick/--full", help="Minutes on a CPU, or the papers' sizes.")] = True,
    setting: Annotated[list[str] | None, typer.Option(help="Only these settings.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only these methods.")] = None,
    seed: Annotated[int, typer.Option(help="Of the training.", min=0)] = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds, from --seed on; each has its row.", min=1)] = 1,
    figures: Annotated[Path | None, typer.Option(help="Draw the paper's figures into this new folder instead.")] = None,
    device: Annotated[str, typer.Option(help="Where to train: cpu, or cuda.")] = "cpu",
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Also write the rows to FILE.csv.")] = None,
    json: Json = False,
) -> None:
    """Run a paper's tables: ours beside theirs, with standard errors, seeds and seconds."""
    from credible import reproduce as tables

    if device not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r}, wanted cpu or cuda")
    chosen = tables.load(paper)
    if figures is not None:
        if setting or method or csv_file is not None or seeds != 1 or device != "cpu":
            raise UsageError(
                "--figures draws all figures of one seed on the CPU; it takes no --setting, --method, --csv, --seeds, "
                "--device"
            )
        from credible.reproduce.figures import FIGURES

        if paper not in FIGURES:
            raise UsageError(f"{paper} has no figures here, only {', '.join(FIGURES)} have")
        _draw(paper, figures, full=not quick, seed=seed, json=json)
        return
    lines = [
        line
        for line in chosen.row
        if (not setting or line.setting in setting) and (not method or line.method in method)
    ]
    if not lines:
        known = sorted({line.setting for line in chosen.row}), sorted({line.method for line in chosen.row})
        raise UsageError(f"no such line; settings: {', '.join(known[0])}; methods: {', '.join(known[1])}")
    if csv_file is not None:
        need_new(csv_file)

    def announce(line: tables.Published) -> None:
        if line.method != tables.PUBLISHED and err.is_terminal:
            err.print(f"{line.setting}: {line.label}")

    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda, but torch sees no GPU")
    where = torch.device(device)
    rows: list[Row] = []
    with ExitStack() as stack:
        keep = _keeper(stack.enter_context(csv_file.open("x", encoding="utf-8", newline=""))) if csv_file else None
        for row in tables.reproduce(
            lines, full=not quick, seeds=list(range(seed, seed + seeds)), started=announce, device=where
        ):
            rows.append(row)
            if keep is not None:
                keep(row)
    result = {"paper": paper, "notes": chosen.notes, "rows": [msgspec.structs.asdict(row) for row in rows]}
    show(result, [chosen.title], as_json=json)
    if json:
        return
    for table in _tables(rows):
        out.print(table)
    for note in [*chosen.notes, *sorted({f"{row.label}, {row.setting}: {row.note}" for row in rows if row.note})]:
        out.print(f"- {note}", markup=False)


def _keeper(file: TextIO) -> Callable[[Row], None]:
    """Return what writes a row to a CSV file as soon as it is there: hours of training are not lost at the last one."""
    from credible.reproduce import Row

    writer = csv.DictWriter(file, fieldnames=[field.name for field in msgspec.structs.fields(Row)])
    writer.writeheader()

    def keep(row: Row) -> None:
        writer.writerow(msgspec.structs.asdict(row))
        file.flush()

    return keep


def _draw(paper: str, folder: Path, *, full: bool, seed: int, json: bool) -> None:
    from credible.reproduce import figures

    need_new(folder)

    def announce(name: str) -> None:
        if err.is_terminal:
            err.print(name)

    figures.draw(paper, folder, full=full, seed=seed, started=announce)
    files = [str(folder / f"{name}{ending}") for name in figures.names(paper) for ending in (".svg", ".csv")]
    show({"paper": paper, "files": files}, files, as_json=json)


def _tables(rows: list[Row]) -> Iterator[Table]:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    several = len({row.seed for row in rows} - {None}) > 1
    for (number, setting), part in groupby(rows, key=lambda row: (row.table, row.setting)):
        shown = number if number.startswith("figure") else f"table {number}"
        table = Table("line", title=f"{shown}: {setting}", box=SIMPLE_HEAD, pad_edge=False)
        ours = "ours\n(worst to best)" if several else "ours"
        lines = [_line(list(runs)) for _, runs in groupby(part, key=lambda row: (row.method, row.label, row.profile))]
        columns = ["exactly\nDSIC", ours, "regret", "loss", "entries\nused", "theirs\n(regret)", "s"]
        shown_columns = [i for i in range(len(columns)) if i in (0, 1, 5) or any(line[i + 1] for line in lines)]
        for i in shown_columns:
            table.add_column(columns[i], no_wrap=True)
        for line in lines:
            table.add_row(line[0], *(line[i + 1] for i in shown_columns))
        yield table


def _line(runs: list[Row]) -> list[str]:
    """Return the cells of one line: the mean over its seeds, with the worst and best where there are several."""
    row, count = runs[0], len(runs)
    earned = [run.revenue for run in runs if run.revenue is not None]
    ours, loss, seconds, regret = "", "", "", ""
    if earned and row.revenue_se is not None:
        ours = f"{sum(earned) / count:.4f} +- {row.revenue_se:.4f}"  # of the shared test profiles; seeds differ by more
        if count > 1:
            ours += f"\n({min(earned):.4f} to {max(earned):.4f})"
        lost = sum(run.ir_loss or 0.0 for run in runs) / count
        loss = f"{lost:.4f}" if lost > 5e-7 else "0"
    elif earned:
        ours = f"{earned[0]:.4f}"  # a bound has no error
    if row.probability is not None and row.published_probability is not None:
        ours = f"{row.probability:.3f}"
    if row.regret is not None and row.regret_kind != "exact_zero":
        regret = f"{sum(run.regret or 0.0 for run in runs) / count:.4f}"
    if row.seconds is not None:
        seconds = f"{sum(run.seconds or 0.0 for run in runs) / count:.1f}"
    printed = row.published_probability if row.published_revenue is None else row.published_revenue
    theirs = "" if printed is None else f"{printed:g}"
    if row.published_regret:
        theirs = f"{theirs} ({row.published_regret:g})".strip()
    used = [run.entries_used for run in runs if run.entries_used is not None]
    entries = "" if not used else str(used[0]) if count == 1 else f"{min(used)} to {max(used)}"
    return [
        f"{row.profile} {row.label}".strip(),
        "yes" if row.dsic == "exact" else "no",
        ours,
        regret,
        loss,
        entries,
        theirs,
        seconds,
    ]
