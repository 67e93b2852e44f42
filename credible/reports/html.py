"""The one-file HTML report: verdicts, findings, two figures (design section 6)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

from credible.money import format_fine
from protocol.errors import MalformedError
from protocol.manifest import Manifest
from protocol.penalties import detection_fixed, detection_independent
from protocol.state import Finding
from protocol.verify import Trust, verify_path


@dataclass(frozen=True, slots=True)
class SessionPage:
    """One session as the report shows it."""

    name: str
    verdict: str
    trusted: bool
    rules: str
    rounds: int
    audited: int
    penalty: str
    findings: list[Finding]
    labels: list[str]
    notes: list[str]
    manifest: Manifest
    drawn: list[int]


def read_session(folder: Path, trust: Path | None) -> SessionPage:
    """Verify a session and return what the report shows.

    Raises:
        MalformedError: If its public log cannot be read at all.
    """
    verdict = verify_path(folder, Trust.read(trust) if trust is not None else None)
    session = verdict.session
    if session is None:
        raise MalformedError(f"{folder}: {verdict.verdict}: {'; '.join(verdict.notes)}")
    manifest = session.manifest
    audit = manifest.audit
    draw = f"k = {audit.k} of {manifest.epoch_rounds}" if audit.mode == "fixed" else f"q = {audit.q_num}/{audit.q_den}"
    return SessionPage(
        name=folder.name,
        verdict=verdict.verdict,
        trusted=verdict.trusted,
        rules=f"{manifest.preset}: {draw}",
        rounds=verdict.checked["outcome statements"],
        audited=verdict.checked["rounds re-executed"],
        penalty=f"{format_fine(manifest.money.penalty, manifest.share_bits)} x {manifest.grid.unit}"
        if manifest.money.penalty
        else "none",
        findings=verdict.findings,
        labels=verdict.labels,
        notes=verdict.notes,
        manifest=manifest,
        drawn=[index for epoch in sorted(session.epochs) for index in session.drawn(epoch) or ()],
    )


def _svg(figure: Any) -> str:
    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def timeline(sessions: Sequence[SessionPage]) -> str:
    """Return an SVG of the rounds of each session: all, audited, convicted."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 0.6 * len(sessions) + 1.2))
    for row, page in enumerate(sessions):
        total = max(page.manifest.rounds, 1)
        axes.barh(row, page.rounds / total, height=0.5, color="#e3e8ee", zorder=1)
        audited = [index / total for index in page.drawn]
        convicted = sorted({finding.round / total for finding in page.findings if finding.round >= 0})
        axes.vlines(audited, row - 0.25, row + 0.25, color="#4a7fb5", linewidth=0.6, zorder=2)
        axes.scatter(convicted, [row] * len(convicted), color="#c0392b", marker="x", s=28, zorder=3)
    axes.set_yticks(range(len(sessions)), [f"{page.name} ({page.manifest.rounds})" for page in sessions])
    axes.set_xlabel("share of the scheduled rounds")
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return _svg(figure)


def detection_curves(sessions: Sequence[SessionPage]) -> str:
    """Return an SVG of the chance to catch w deviating rounds under each session's audit rule (spec 9.3, 9.5)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 3.6))
    drawn: set[str] = set()
    for page in sessions:
        manifest = page.manifest
        audit, total = manifest.audit, manifest.rounds
        if page.rules in drawn or (audit.mode == "fixed" and audit.k == total):
            continue
        drawn.add(page.rules)
        counts = sorted({max(1, round(total ** (step / 40))) for step in range(41)})
        if audit.mode == "fixed":
            chances = [float(detection_fixed(total, audit.k, w)) for w in counts]
        else:
            chances = [float(detection_independent(Fraction(audit.q_num, audit.q_den), w)) for w in counts]
        axes.plot(counts, chances, label=page.rules)
    axes.set_xscale("log")
    axes.set_xlabel("deviating rounds w")
    axes.set_ylabel("chance that an audit finds one")
    axes.set_ylim(0, 1.02)
    if drawn:
        axes.legend(frameon=False)
    else:
        axes.text(0.5, 0.5, "every round is audited: every deviation is found", transform=axes.transAxes, ha="center")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return _svg(figure)


def build_report(title: str, sessions: Sequence[SessionPage], evaluation: dict[str, Any] | None) -> str:
    """Return the HTML of a report.

    Args:
        title: Heading.
        sessions: Verified sessions.
        evaluation: What `credible evaluate --json` printed for the mechanism, if there is one; `caveat` may be added.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(resources.files("credible.reports").joinpath("page.html").read_text("utf-8"))
    figures = [
        {
            "svg": Markup(timeline(sessions)),  # noqa: S704 - drawn here; names are escaped by matplotlib
            "caption": "Rounds played (grey), drawn for audit (blue), convicted (red crosses).",
        },
        {
            "svg": Markup(detection_curves(sessions)),  # noqa: S704 - the same
            "caption": "What the audit rule finds, by the number of deviating rounds; the penalty prices the rest.",
        },
    ]
    shown = None
    if evaluation is not None:
        rows = [{"name": "trained mechanism", **_rounded(evaluation)}]
        rows += [{"name": n.replace("_", " "), **_rounded(r)} for n, r in evaluation["baselines"].items()]
        shown = {
            "rows": rows,
            "regret": f"{evaluation['regret']:.3g}",
            "regret_kind": evaluation["regret_kind"],
            "ir": f"{evaluation['ir_violation']:.3g}",
            "over": f"{evaluation['overallocation']:.3g}",
            "samples": f"{evaluation['samples']:,}",
            "caveat": evaluation.get("caveat", ""),
        }
    return template.render(title=title, sessions=sessions, figures=figures, evaluation=shown)


def _rounded(row: dict[str, Any]) -> dict[str, str]:
    return {"revenue": f"{row['revenue']:.5f}", "error": f"{row['revenue_se']:.5f}"}
