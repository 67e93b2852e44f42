"""Trainings and reproductions as a report tells them: curves, revenue against baselines and ceilings, tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from credible.reports.blocks import Part, Picture, Section, Table, numbers
from credible.reports.style import COLOURS, GREY, MARKERS, inline, new
from protocol.errors import MalformedError

NAMES = {"vcg": "second price (VCG)", "item_wise_myerson": "items sold alone, best reserves (Myerson)"}


def run_part(folder: Path, evaluation: Mapping[str, Any]) -> Part:
    """Return what a report says of a training run.

    Args:
        folder: The run's folder.
        evaluation: What `credible evaluate --json` prints of it.

    Raises:
        MalformedError: If the folder's files are damaged.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise MalformedError(f"{folder}: not a run: {error}") from error
    revenue = f"{evaluation['revenue']:.5f} +- {evaluation['revenue_se']:.5f}"
    exact = evaluation["regret_kind"].startswith("exact")
    regret = "no bidder gains by lying, by construction" if exact else f"regret found {evaluation['regret']:.3g}"
    searched = "" if exact else f"; search: {evaluation['regret_search']}"
    facts = [(name, str(config[name])) for name in ("method", "seed", "bidders", "items") if name in config]
    part = Part(
        folder.name, "", f"Earns {revenue} a round; {regret}.",
        [f"Measured on {evaluation['samples']:,} fresh draws{searched}."],
        [],
    )  # fmt: skip
    part.sections.append(evaluation_section(evaluation))
    if steps:
        part.sections.append(_curve(steps, facts))
    return part


def evaluation_section(evaluation: Mapping[str, Any]) -> Section:
    """Return revenue against baselines and the full surplus, with what is broken and by how much."""
    rows = [("this mechanism", evaluation["revenue"], evaluation["revenue_se"])]
    rows += [
        (NAMES.get(n, n.replace("_", " ")), row["revenue"], row["revenue_se"])
        for n, row in evaluation["baselines"].items()
    ]
    ceiling = evaluation.get("surplus")
    figure, axes = new(width=7.2, height=0.5 * len(rows) + 1.2)
    for place, (_, value, error) in enumerate(rows):
        axes.errorbar([value], [place], xerr=[2 * error], fmt=MARKERS[place % len(MARKERS)], capsize=3,
                      color=COLOURS[0] if place == 0 else GREY)  # fmt: skip
    if ceiling is not None:
        axes.axvline(ceiling, color=COLOURS[1], linestyle="--", label="all that bidders value: no auction earns more")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("revenue a round (+- 2 s.e.)")
    axes.set_xlim(left=0)
    cells = [(name, f"{value:.5f}", f"{error:.5f}") for name, value, error in rows]
    if ceiling is not None:
        cells.append(("full surplus", f"{ceiling:.5f}", ""))
    caption = "Revenue on fresh values, against the classic auctions and what bidders value in all."
    behind = Table(("auction", "revenue", "standard error"), cells, "", numbers(1, 2))
    section = Section("Revenue", blocks=[Picture(inline(figure, caption), caption), behind])
    section.facts = [
        ("what a lie gains (regret)", _regret_text(evaluation)),
        ("largest loss of a truthful bidder", f"{evaluation['ir_violation']:.3g}"),
        ("given away beyond the whole of an item", f"{evaluation['overallocation']:.3g}"),
        ("draws", f"{evaluation['samples']:,}"),
    ]
    if evaluation.get("caveat"):
        section.notes = [str(evaluation["caveat"])]
    if "audit" in evaluation:
        _add_audit(section, evaluation["audit"], evaluation.get("certificates", []))
    return section


def _add_audit(section: Section, audit: Mapping[str, Any], certificates: Sequence[Mapping[str, Any]]) -> None:
    """Add what the regret auditor found (EVAL-4) and certified upper bounds (EVAL-5)."""
    above = {row["bidder"]: row for row in certificates}
    cells = [
        (
            str(bidder), f"{mean:.6f}", f"{quantiles[-1]:.6f}", f"{largest:.6f}",
            f"{above[bidder]['mean']:.6f}" if bidder in above else "-",
            f"{above[bidder]['largest']:.6f}" if bidder in above else "-",
        )
        for bidder, (mean, quantiles, largest) in enumerate(
            zip(audit["mean"], audit["quantiles"], audit["largest"], strict=True)
        )
    ]  # fmt: skip
    head = ("bidder", "mean found", "99 % of profiles below", "largest found", "mean at most", "largest at most")
    where = "the artifact's grid" if audit["reports"] == "grid" else "the range of the values"
    ended = "was still finding more when it ended" if audit["unfinished"] else "had stopped finding more when it ended"
    caption = (
        f"What a lie gains: found on {audit['profiles']:,} profiles among lies within {where}, a lower bound, by a "
        f"search that {ended}; at most: proved for every lie there, where it was asked for."
    )
    section.blocks.append(Table(head, cells, caption, numbers(1, 2, 3, 4, 5)))
    curve = [(s["stage"], f"{s['reports']:,}", f"{s['mean']:.6f}", f"{s['largest']:.6f}") for s in audit["curve"]]
    caption = "The search's curve: what had been found after each stage."
    section.blocks.append(
        Table(("stage", "lies tried", "mean", "largest"), curve, caption, numbers(1, 2, 3), folded=True)
    )


def _regret_text(evaluation: Mapping[str, Any]) -> str:
    if str(evaluation["regret_kind"]).startswith("exact"):
        return "nothing, by construction"
    return f"at least {evaluation['regret']:.3g}, as far as was searched"


def _curve(steps: Sequence[Mapping[str, Any]], facts: list[tuple[str, str]]) -> Section:
    figure, axes = new(width=7.2, height=3.0)
    at = [step["step"] for step in steps]
    surrogate = [_first(step.get("surrogate")) for step in steps]
    validation = [_first(step.get("validation")) for step in steps]
    axes.plot(at, surrogate, color=GREY, linestyle="--", label="surrogate that training climbs, best start")
    axes.plot(at, validation, color=COLOURS[0], marker="o", label="revenue of the mechanism itself, held-out draws")
    axes.set(xlabel="step", ylabel="revenue")
    axes.legend()
    rows = [(str(s), f"{a:.5f}", f"{b:.5f}") for s, a, b in zip(at, surrogate, validation, strict=True)]
    caption = "Training: the surrogate is not a revenue, only the held-out line is."
    behind = Table(("step", "surrogate", "held-out revenue"), rows, "", numbers(0, 1, 2), folded=True)
    return Section("Training", facts=facts, blocks=[Picture(inline(figure, caption), caption, behind)])


def _first(values: Any) -> float:
    if isinstance(values, list):
        return max((float(value) for value in values), default=float("nan"))
    return float("nan") if values is None else float(values)


def reproduction_part(name: str, result: Mapping[str, Any]) -> Part:
    """Return what a report says of a reproduced paper: what `credible reproduce --json` printed.

    Raises:
        MalformedError: If it is nothing of the kind.
    """
    try:
        rows = [row for row in result["rows"] if row.get("revenue") is not None]
        notes = [str(note) for note in result.get("notes", [])]
        tables: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            tables.setdefault(str(row["table"]), []).append(row)
        compared = [row for row in rows if row.get("published_revenue") is not None]
        above = sum(row["revenue"] >= row["published_revenue"] for row in compared)
        exact = [row for row in rows if row.get("dsic") == "exact"]
        headline = (
            f"{len(rows)} results, {len(compared)} with a published figure beside, {len(exact)} exactly truthful."
        )
        part = Part(name, "", headline, [f"{above} of {len(compared)} earn at least the published figure."], [])
        for table, listed in tables.items():
            section = Section(f"Table {table}")
            section.blocks = [_comparison(listed), _rows(listed)]
            part.sections.append(section)
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedError(f"{name}: not what `credible reproduce --json` prints: {error!r}") from error
    part.sections.append(Section("Notes", notes=notes))
    return part


def _method(row: Mapping[str, Any]) -> str:
    return str(row.get("label") or row["method"])


def _label(row: Mapping[str, Any]) -> str:
    profile = f" {row['profile']}" if row.get("profile") not in (None, "") else ""
    return f"{row['setting']}{profile}"


def _comparison(rows: Sequence[Mapping[str, Any]]) -> Picture:
    settings = list(dict.fromkeys(_label(row) for row in rows))[:40]
    methods = list(dict.fromkeys(_method(row) for row in rows))
    figure, axes = new(width=8.4, height=0.32 * len(settings) + 1.4)
    for number, method in enumerate(methods):
        chosen = [row for row in rows if _method(row) == method and _label(row) in settings]
        axes.errorbar([row["revenue"] for row in chosen], [settings.index(_label(row)) for row in chosen],
                      xerr=[2 * (row.get("revenue_se") or 0) for row in chosen], fmt=MARKERS[number % len(MARKERS)],
                      color=COLOURS[number % len(COLOURS)], label=method)  # fmt: skip
    theirs = [row for row in rows if row.get("published_revenue") is not None and _label(row) in settings]
    axes.plot([row["published_revenue"] for row in theirs], [settings.index(_label(row)) for row in theirs], "|",
              color=GREY, markersize=11, label="published")  # fmt: skip
    axes.set_yticks(range(len(settings)), settings)
    axes.set_ylim(len(settings) - 0.5, -0.5)
    axes.set_xlabel("revenue (+- 2 s.e.)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    caption = "Revenue of each method, and the published figure (grey bar)."
    return Picture(inline(figure, caption), caption)


def _rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    def text(value: Any, form: str) -> str:
        return "" if value is None else format(value, form)

    cells = [
        (
            _label(row), _method(row), str(row.get("dsic", "")), text(row["revenue"], ".4f"),
            text(row.get("revenue_se"), ".4f"), text(row.get("regret"), ".2g"),
            text(row.get("published_revenue"), ".4g"), text(row.get("published_regret"), ".2g"),
            text(row.get("seconds"), ".1f"),
        )
        for row in rows
    ]  # fmt: skip
    head = ("setting", "method", "truthful", "revenue", "s.e.", "regret", "published", "its regret", "seconds")
    return Table(head, cells, "", numbers(3, 4, 5, 6, 7, 8))
