"""credible report."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from credible.cli.common import Json, UsageError, read_input, show
from protocol.artifact.header import MAX_BYTES
from protocol.errors import MalformedError
from protocol.storage.files import write_file

if TYPE_CHECKING:
    from credible.reports.blocks import Part

METRICS_FILE = "metrics.jsonl"  # of a run
MOST = 64 << 20  # bytes of a reproduction's JSON


def report(
    paths: Annotated[
        list[Path], typer.Argument(help="Sessions, runs, artifacts, or what `reproduce --json` printed (FILE.json).")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file to write.")] = Path("report.html"),
    evaluation: Annotated[
        Path | None, typer.Option(help="What `evaluate --json` printed, to show with the last path.")
    ] = None,
    trust: Annotated[
        Path | None, typer.Option(help="What you pin of one session; SESSION.trust.json beside each if left out.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Draws that a run is measured on.", min=1000)] = 50_000,
    title: Annotated[str, typer.Option(help="Heading; by what it is about if left out.")] = "",
    json: Json = False,
) -> None:
    """Write one HTML file that opens offline: the verdict first, then what it rests on."""
    from credible.reports.html import build_report

    if any(output.resolve() == path.resolve() for path in (*paths, *([evaluation] if evaluation else []))):
        raise UsageError(f"{output} is what the report is about; choose another --output")
    figures = None if evaluation is None else _json(evaluation, 1 << 20)
    *others, last = [path.resolve() for path in paths]
    about = Path(str(figures["source"])).name if figures is not None and "source" in figures else last.name
    measurable = last.is_file() or (last / METRICS_FILE).is_file()  # a session may come with its mechanism's figures
    if measurable and about != last.name:
        raise UsageError(f"{evaluation} is of {about}, the report's last path is {last.name}")
    if figures is not None:
        _check_figures(figures, evaluation)
    parts = [part for path in others for part in _parts(path, trust, samples)] + _parts(last, trust, samples, figures)
    judged = any(part.state for part in parts)
    heading = title or ("credible: can this auction be trusted?" if judged else "credible: what this auction earns")
    text = build_report(heading, parts)
    write_file(output, text.encode("utf-8"))
    lines = [f"{output}: {len(text.encode('utf-8')):,} bytes"] + [f"  {part.name}: {part.headline}" for part in parts]
    result = {
        "report": str(output),
        "bytes": len(text.encode("utf-8")),
        "parts": [{"name": part.name, "state": part.state, "headline": part.headline} for part in parts],
        "sessions": [part.name for part in parts if part.state],
    }
    show(result, lines, as_json=json)


def _check_figures(figures: dict[str, Any], file: Path | None) -> None:
    """Raise MalformedError if figures are not what `credible evaluate --json` prints."""
    from credible.reports.runs import evaluation_section

    try:
        evaluation_section(figures)
        str(figures["regret_search"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise MalformedError(f"{file}: not what `credible evaluate --json` prints: {error!r}") from error


def _json(path: Path, most: int) -> dict[str, Any]:
    try:
        read = json_module.loads(read_input(path, most))
    except ValueError as error:
        raise MalformedError(f"{path}: not JSON: {error}") from error
    if not isinstance(read, dict):
        raise MalformedError(f"{path}: holds no JSON object")
    return read


def _parts(path: Path, trust: Path | None, samples: int, figures: dict[str, Any] | None = None) -> list[Part]:
    """Return what a report says of one path, by what lies there, and of what `evaluate` measured on it."""
    if (path / METRICS_FILE).is_file():
        from credible.cli.evaluate import measured
        from credible.reports.runs import run_part

        return [run_part(path, measured(path, samples=samples)[0] if figures is None else figures)]
    parts = _unmeasured(path, trust)
    if figures is not None:
        from credible.reports.runs import evaluation_section

        parts[-1].sections.append(evaluation_section(figures))
    return parts


def _unmeasured(path: Path, trust: Path | None) -> list[Part]:
    if path.is_file() and path.suffix == ".json":
        from credible.reports.runs import reproduction_part

        return [reproduction_part(path.stem, _json(path, MOST))]
    if path.is_file():
        from credible.reports.blocks import Part
        from credible.reports.mechanism import mechanism_section
        from protocol.artifact import Sandbox

        data = read_input(path, MAX_BYTES)
        with Sandbox(data) as checked:  # the limits of a foreign file apply before it is loaded here
            proved = checked.summary.certified
        headline = (
            "No bidder can gain by misreporting, and none pays more than it bid: proved from the file."
            if proved
            else "Whether a bidder could gain by misreporting is not proved."
        )
        terms = ["In terms: dominant-strategy incentive compatible, ex-post individually rational."] if proved else []
        tone = "holds" if proved else "inconclusive"
        return [Part(path.name, "", headline, terms, [mechanism_section(data)], tone)]
    if not path.is_dir():
        raise MalformedError(f"{path}: no such file or folder")
    return [_session(path, trust)]


def _session(path: Path, trust: Path | None) -> Part:
    from credible.reports.mechanism import mechanism_section
    from credible.reports.sessions import session_part
    from credible.simulation.market import trust_path
    from protocol.artifact import Sandbox
    from protocol.verify import ARTIFACT_FILE

    pinned = trust or trust_path(path)
    if trust is not None and not trust.is_file():
        raise MalformedError(f"{trust}: no such file")
    part = session_part(path, pinned if pinned.is_file() else None)
    public = path / "public" if (path / "public").is_dir() else path
    if (public / ARTIFACT_FILE).is_file():
        data = read_input(public / ARTIFACT_FILE, MAX_BYTES)
        with Sandbox(data):
            pass
        part.sections.insert(-1, mechanism_section(data))
    return part
