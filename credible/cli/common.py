"""What the commands share: output, progress, exit statuses (spec 8.6)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from protocol.errors import MalformedError
from protocol.storage.files import read_file

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from credible.settings import Setting
    from mechanisms.outcome import Mechanism

HOLDS: Final = 0
DEVIATION: Final = 1
USAGE: Final = 2
MALFORMED: Final = 3
INCONCLUSIVE: Final = 4
DEFECT: Final = 70

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="Make the run reproducible; without it secrets are fresh.", min=0, max=2**53 - 1),
]

# Listed here rather than read from the agents, which load numpy; a test compares the two.
BIDDERS: Final = (
    "truthful, shade:80, noisy:20, best-response, exp3, weights, budget:10, late:10, silent:10, ring*2, sybil:50*2, "
    "shill:50, adaptive-shill"
)
AUCTIONEERS: Final = (
    "honest, inflate:0.1, phantom:0.1, favour:0:0.1, drop:0:0.1, swap:FILE.onnx:0.1, threshold, random:10, "
    "rare:101:10, optimal, refuse:0.1, equivocate:0.1"
)
BidderSpec = Annotated[
    str, typer.Option("--bidders", help=f"One for all seats, or one a seat with commas: {BIDDERS}; FILE.py:CLASS.")
]
AuctioneerSpec = Annotated[str, typer.Option("--auctioneer", help=f"{AUCTIONEERS}; FILE.py:CLASS.")]

SettingName = Annotated[
    str | None, typer.Option("--setting", help="Values of a setting; uniform on the grid if left out.")
]
Participation = Annotated[
    float,
    typer.Option(
        "--participation", help="Chance that a bidder comes, unless the setting says who comes.", min=0, max=1
    ),
]
Audits = Annotated[int, typer.Option("--k", help="Rounds audited, for published.", min=1)]
Chance = Annotated[str, typer.Option("--q", help="Chance of an audit, for prompt, as a fraction.")]
EpochRounds = Annotated[int, typer.Option("--epoch", help="Rounds of an epoch, for prompt.", min=1)]
Gains = Annotated[str, typer.Option("--gains", help="kept, or returned to bidders on detection (spec 9.2).")]
Processes = Annotated[int, typer.Option("--processes", help="Processes; all cores if 0.", min=0, max=256)]
Context = Annotated[
    str, typer.Option("--context", help="Public integers of every round (a reserve), if the artifact takes any: 0,500.")
]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class UsageError(Exception):
    """Options that do not go together; exit status 2."""


def show(result: dict[str, Any], lines: list[str] | Table, *, as_json: bool) -> None:
    """Print a result: one JSON object, or lines or a table for people."""
    if as_json:
        print(json.dumps(result, ensure_ascii=True))  # noqa: T201 - the one place that prints machine output
    elif isinstance(lines, list):
        for line in lines:
            out.print(line, markup=False)
    else:
        out.print(lines)


@dataclass(slots=True)
class Bar:
    """Moves a progress bar; silent where there is no terminal."""

    progress: Progress | None
    task: Any

    def to(self, done: int, note: str = "") -> None:
        """Set how much is done, and what there is to say of it."""
        if self.progress is not None:
            self.progress.update(self.task, completed=done, note=note)


@contextmanager
def bar(title: str, total: int, *, quiet: bool) -> Iterator[Bar]:
    """Show a progress bar on stderr, on a terminal only."""
    if quiet or not err.is_terminal:
        yield Bar(None, None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )  # fmt: skip
    with Progress(*columns, console=err, transient=True) as progress:
        yield Bar(progress, progress.add_task(title, total=total, note=""))


def read_input(path: Path, limit: int) -> bytes:
    """Read a file that the user named; raise MalformedError that names it if there is none."""
    try:
        return read_file(path, limit)
    except FileNotFoundError as error:
        raise MalformedError(f"{path}: no such file") from error


def context_of(text: str, names: Sequence[str], most: int) -> tuple[int, ...]:
    """Return the integers of --context; zeros if it is left out and the artifact takes some.

    Raises:
        UsageError: If it is not as many integers as the artifact takes, each from 0 to `most`.
    """
    if not text:
        return (0,) * len(names)
    wanted = f"{len(names)} integers from 0 to {most} ({', '.join(names)})" if names else "none"
    try:
        given = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"context {text!r}, the artifact takes {wanted}") from error
    if len(given) != len(names) or not all(0 <= value <= most for value in given):
        raise UsageError(f"context {text!r}, the artifact takes {wanted}")
    return given


def open_run(folder: Path) -> tuple[Setting, Mechanism, dict[str, Any]]:
    """Return what `load_run` does; say on stderr if the run ended before its last step.

    Raises:
        MalformedError: If the folder is no finished or running run.
    """
    from credible.runs import load_run
    from mechanisms.training.run import RunError, steps_done

    setting, mechanism, config = load_run(folder)
    wanted = config.get("iterations")
    if not isinstance(wanted, int):
        raise MalformedError(f"{folder}: config.json has iterations {wanted!r}, wanted a number")
    try:
        done = steps_done(folder)
    except RunError as error:
        raise MalformedError(f"{folder}: no usable run: {error}") from error
    if done < wanted:
        err.print(f"{folder}: these are the weights of step {done:,} of {wanted:,}")
    return setting, mechanism, config


def need_new(path: Path) -> None:
    """Raise UsageError if a path that is to be written exists."""
    if path.exists():
        raise UsageError(f"{path} exists; choose another name")
