"""Figures that answer the questions of `credible.simulation.questions`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from credible.reports.style import COLOURS, GREY, MARKERS, new
from credible.simulation.questions import Answer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = list[dict[str, Any]]


def draw(answer: Answer) -> Figure:
    """Return the figure of an answer."""
    return _DRAWN[answer.question](answer)


def _by(rows: Rows, key: str) -> dict[Any, Rows]:
    groups: dict[Any, Rows] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def _deterrence(answer: Answer) -> Figure:
    figure, axes = new(2, width=9.6, height=3.8)
    groups = {name: rows for name, rows in _by(answer.rows, "strategy").items() if "default" not in name}
    for number, (name, rows) in enumerate(groups.items()):
        style = {"color": COLOURS[number], "marker": MARKERS[number], "label": name}
        factors = [row["factor"] for row in rows]
        axes[0].errorbar(factors, [row["profit_over_g"] for row in rows],
                         [2 * row["profit_over_g_se"] for row in rows], **style)  # fmt: skip
        axes[1].plot(factors, [row["halted"] for row in rows], **style)
    for row in answer.rows:
        if "default" in row["strategy"]:
            axes[0].axhline(row["profit_over_g"], color=GREY, linestyle="--", label="no audit at all")
    for axis in axes:
        axis.axvline(1, color="black", linestyle=":", linewidth=1)
        axis.set_xscale("symlog", linthresh=1e-3)
        axis.set_xlim(-1e-4, 2.6)
        axis.set_xticks([0, 0.001, 0.01, 0.1, 1])
        axis.set_xlabel("penalty / penalty that spec 9 asks for")
    axes[0].set_yscale("symlog", linthresh=1)
    axes[0].axhline(0, color=GREY, linewidth=0.8)
    axes[0].set_ylabel("profit of a market / g")
    axes[0].set_title("Profit from cheating (+- 2 s.e.)")
    axes[1].set_ylabel("share of markets halted")
    axes[1].set_ylim(-0.03, 1.05)
    axes[1].set_title("Markets halted by a conviction")
    axes[0].legend(fontsize=8)
    return figure


def _region(answer: Answer) -> Figure:
    figure, axes = new(2, width=9.6, height=3.8)
    for axis, (name, chosen) in zip(axes, _by(answer.rows, "varied").items(), strict=True):
        groups = _by(chosen, "at")
        for place, rows in groups.items():
            for pays, colour, marker in ((True, COLOURS[1], "x"), (False, COLOURS[0], ".")):
                part = [row["penalty_over_g"] for row in rows if (row["profit_over_g"] > 1e-9) == pays]
                axis.plot([place] * len(part), part, marker, color=colour, markersize=3.5)
        bound = [rows[0]["required_over_g"] for rows in groups.values()]
        axis.plot(list(groups), bound, color="black", label="bound of spec 9")
        axis.plot([], [], "x", color=COLOURS[1], label="cheating pays")
        axis.plot([], [], ".", color=COLOURS[0], label="it does not")
        axis.set(xlabel=name, ylabel="penalty / g", yscale="log")
        if max(groups) / min(groups) > 15:
            axis.set_xscale("log")
            axis.set_xticks(list(groups))
            axis.minorticks_off()
    axes[0].set_title("The best cheat where every round gains g")
    axes[0].legend(fontsize=8)
    return figure


def _detection(answer: Answer) -> Figure:
    figure, axes = new(width=6.4, height=3.6)
    counts = [row["deviating"] for row in answer.rows]
    axes.plot(counts, [row["theory"] for row in answer.rows], color=GREY, label="theory (spec 9.3, 9.5)")
    axes.errorbar(counts, [row["caught"] for row in answer.rows], [2 * row["se"] for row in answer.rows],
                  fmt="o", color=COLOURS[0], label="played (+- 2 s.e.)")  # fmt: skip
    axes.set(xscale="log", ylim=(-0.03, 1.05), xlabel="deviating rounds w", ylabel="share of markets caught",
             title="Detection")  # fmt: skip
    axes.legend()
    return figure


def _audit_cost(answer: Answer) -> Figure:
    figure, axes = new(width=6.4, height=3.6)
    rates = [row["rate"] for row in answer.rows]
    for number, (name, label) in enumerate((("cost", "together"), ("audits", "audits"), ("capital", "deposit"))):
        axes.plot(rates, [row[name] for row in answer.rows], color=COLOURS[number], label=label,
                  linestyle=("-", "--", ":")[number])  # fmt: skip
    best = min(answer.rows, key=lambda row: float(row["cost"]))
    axes.plot([best["rate"]], [best["cost"]], "o", color=COLOURS[0])
    axes.annotate(f"{best['rate']:.0%}", (best["rate"], best["cost"]), xytext=(6, 8), textcoords="offset points")
    axes.set(xlabel="share of rounds audited", ylabel="cost of a session / g", title="Audits against deposits")
    axes.set_ylim(0, min(max(row["cost"] for row in answer.rows), 6 * best["cost"]))
    axes.legend()
    return figure


def _learning(answer: Answer) -> Figure:
    figure, axes = new(2, width=9.6, height=3.6)
    names = list(_by(answer.rows, "mechanism"))
    for row in answer.rows:
        number = names.index(row["mechanism"])
        truthful = row["bidders"] == "truthful"
        label = f"{row['mechanism']}, {row['bidders']}"
        points = [point / len(row["bid_over_value"]) for point in range(len(row["bid_over_value"]))]
        style = {"color": COLOURS[number], "linestyle": "--" if truthful else "-", "label": label}
        axes[0].plot(points, row["bid_over_value"], **style)
        axes[1].plot(points, row["revenue_over_time"], **style)
    axes[0].set(xlabel="share of the session", ylabel="bids / values", title="How bidders bid")
    axes[1].set(xlabel="share of the session", ylabel="revenue of a round, grid units", title="Revenue")
    axes[1].legend(fontsize=8)
    return figure


def _shills(answer: Answer) -> Figure:
    figure, axes = new(width=6.4, height=3.6)
    for number, (name, rows) in enumerate(_by(answer.rows, "mechanism").items()):
        share = [100 * row["gain"] / max(row["revenue_without"], 1e-12) for row in rows]
        error = [200 * row["gain_se"] / max(row["revenue_without"], 1e-12) for row in rows]
        axes.errorbar([row["level"] for row in rows], share, error, color=COLOURS[number], marker=MARKERS[number],
                      label=name)  # fmt: skip
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set(xlabel="bid of the shill / highest value", ylabel="revenue gained, per cent (+- 2 s.e.)",
             title="What a blind shill gains")  # fmt: skip
    axes.legend()
    return figure


def _participation(answer: Answer) -> Figure:
    figure, axes = new(2, width=9.6, height=3.6)
    for number, (name, rows) in enumerate(_by(answer.rows, "mechanism").items()):
        style = {"color": COLOURS[number], "marker": MARKERS[number], "label": name}
        chances = [row["chance"] for row in rows]
        for axis, key in ((axes[0], "revenue"), (axes[1], "welfare")):
            axis.errorbar(chances, [row[key] for row in rows], [2 * row[f"{key}_se"] for row in rows], **style)
            axis.set(
                xlabel="chance that a bidder comes", ylabel=f"{key} of a round, grid units", title=key.capitalize()
            )

    for axis in axes:
        axis.set_ylim(bottom=0)
    axes[0].legend(fontsize=8)
    return figure


def _settlement(answer: Answer) -> Figure:
    figure, axes = new(2, width=9.6, height=3.6)
    rounds = [row["round"] for row in answer.rows]
    for number, (key, label) in enumerate((("deposit", "auctioneer's deposit"), ("escrow", "charges in escrow"))):
        axes[0].plot(rounds, [row[key] for row in answer.rows], color=COLOURS[number], label=label)
    parts = (("revenue", "revenue, all rounds so far"), ("penalties", "penalties"), ("paid_back", "paid back"))
    for number, (key, label) in enumerate(parts):
        axes[1].plot(rounds, [row[key] for row in answer.rows], color=COLOURS[number], label=label,
                     linestyle=("-", "--", ":")[number])  # fmt: skip
    axes[0].set(xlabel="round", ylabel="grid units, mean over markets", title="What is held", yscale="symlog")
    axes[1].set(xlabel="round", ylabel="grid units, mean over markets", title="What was paid")
    for axis in axes:
        axis.legend(fontsize=8)
    return figure


def _best(answer: Answer) -> Figure:
    figure, axes = new(width=6.4, height=3.4)
    for number, (name, rows) in enumerate(_by(answer.rows, "preset").items()):
        factors = [row["factor"] for row in rows]
        axes.plot(factors, [row["profit_over_g"] for row in rows], color=COLOURS[number], marker=MARKERS[number],
                  label=f"{name}, this market")  # fmt: skip
        axes.plot(factors, [row["worst_case_over_g"] for row in rows], color=COLOURS[number], linestyle="--",
                  label=f"{name}, every round gains g")  # fmt: skip
    axes.axvline(1, color="black", linestyle=":", linewidth=1)
    axes.set(xlabel="penalty / penalty that spec 9 asks for", ylabel="profit of a market / g", title="The best cheater")
    axes.legend()
    return figure


_DRAWN: Final[Mapping[str, Callable[[Answer], Figure]]] = {
    "deterrence": _deterrence, "region": _region, "detection": _detection, "audit-cost": _audit_cost,
    "learning": _learning, "shills": _shills, "participation": _participation, "settlement": _settlement,
    "best": _best,
}  # fmt: skip
