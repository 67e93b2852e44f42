"""Figures of the papers, ours: learned menus, training curves, revenue surfaces, revenue against allowed losses."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from credible import settings as store
from credible.records.values import valuation_model
from credible.reports.style import COLOURS
from credible.runs import objective_of, schedule_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from credible.settings import Setting
    from mechanisms.outcome import Mechanism
    from mechanisms.valuations import ValuationModel

EQUAL_REVENUE: Final = ("equal_revenue_001", "equal_revenue_002", "equal_revenue_005", "equal_revenue_01")
TARGETS: Final = (0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0001)  # of the mean loss; ca-ama, figure 5
LEAST: Final = 50  # iterations of a training
SAMPLES: Final = 50_000  # of a profile
Rows = list[dict[str, object]]


def draw(
    paper: str, folder: Path, *, full: bool, seed: int, started: Callable[[str], None] = lambda name: None
) -> None:
    """Draw a paper's figures into a folder: NAME.svg, and NAME.csv with the numbers in it.

    Args:
        paper: One that has figures.
        folder: Where to; made if it is not there.
        full: Train as long as the recipes say, else a third of it.
        seed: Of the trainings.
        started: Called with the name of each figure before it.
    """
    import matplotlib as mpl
    import torch

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "credible"  # the same figure is the same file
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    share = 1.0 if full else 1 / 3
    for name, make in FIGURES[paper]:
        started(name)
        figure, rows = make(share, seed)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def _trained(
    setting: Setting,
    method: str,
    share: float,
    seed: int,
    curve: list[tuple[int, float]] | None = None,
    *,
    forced: bool = False,
) -> Mechanism:
    """Train by a recipe, or a share of it, and keep the hard held-out revenue along the way if asked.

    Args:
        setting: The setting.
        method: One that it has a recipe for.
        share: Of the recipe's iterations.
        seed: Of the training.
        curve: Takes step and revenue.
        forced: The curve is that of bidders who cannot opt out.
    """
    from mechanisms.affine import WithFee
    from mechanisms.outcome import revenue
    from mechanisms.training import train

    values = valuation_model(setting)
    schedule = schedule_of(setting, method)
    iterations = max(LEAST, round(schedule.iterations * share))
    schedule = replace(schedule, iterations=iterations, every=10**6 if curve is None else max(1, iterations // 40))
    objective = objective_of(setting, method, seed)

    fresh = _fresh(values, 20_000) if forced else None

    def keep(step: int, validation: float) -> None:
        if curve is None:
            return
        if fresh is not None:
            mechanism = objective.mechanism(0, values.scale)
            if isinstance(mechanism, WithFee):
                validation = float(revenue(replace(mechanism, opt_out=False).run(fresh)).mean())
        curve.append((step, validation))

    return objective.mechanism(train(objective, values, schedule, seed=seed, progress=keep).best, values.scale)


def _fresh(values: ValuationModel, count: int) -> Any:
    from mechanisms.training.loop import step_generator

    return values.sample(count, step_generator(12345, 1, 0))


def _axes(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False)
    plt.close(figure)  # kept by us, not by the library
    return figure, axes


def _menu_of(name: str, method: str) -> Callable[[float, int], tuple[Figure, Rows]]:
    """Return what draws the entries of a learned menu that are used, the most used first."""

    def make(share: float, seed: int) -> tuple[Figure, Rows]:
        from mechanisms.affine import AffineMaximizer

        setting = store.load(name)
        mechanism = _trained(setting, method, share, seed)
        if not isinstance(mechanism, AffineMaximizer):
            raise TypeError(f"{method} has no menu")
        times = mechanism.chosen(_fresh(valuation_model(setting), 100_000)).bincount(minlength=len(mechanism.boosts))
        order = times.argsort(descending=True, stable=True)
        used = [int(k) for k in order if times[k] > 0][:24]
        columns = min(6, len(used))
        figure, axes = _axes(-(-len(used) // columns), columns, 2.1 * columns, 1.9 * -(-len(used) // columns))
        rows: Rows = []
        for place, axis in enumerate(axes.flat):
            if place >= len(used):
                axis.axis("off")
                continue
            entry, often = mechanism.menu[used[place]], float(times[used[place]]) / 1000
            boost = float(mechanism.boosts[used[place]])
            axis.imshow(entry.numpy(), vmin=0, vmax=1, cmap="Blues")
            axis.set_title(f"{often:.1f} %, boost {boost:.3f}", fontsize=8)
            axis.set_xticks(range(setting.items), [f"item {j + 1}" for j in range(setting.items)], fontsize=6)
            axis.set_yticks(range(setting.bidders), [f"bidder {i + 1}" for i in range(setting.bidders)], fontsize=6)
            for i in range(setting.bidders):
                for j in range(setting.items):
                    part = float(entry[i, j])
                    dark = "white" if part > 0.5 else "black"
                    axis.text(j, i, f"{part:.2f}", ha="center", va="center", fontsize=6, color=dark)
                    rows.append(
                        {"entry": place, "percent": often, "boost": boost, "bidder": i, "item": j, "share": part}
                    )
        return figure, rows

    return make


def _curves(share: float, seed: int) -> tuple[Figure, Rows]:
    """Draw ca-ama's figures 2 and 4: hard revenue while training, between VCG and the surplus."""
    from mechanisms.classic import vcg
    from mechanisms.outcome import revenue

    figure, axes = _axes(2, 2, 10, 7)
    rows: Rows = []
    for axis, name in zip(axes.flat, EQUAL_REVENUE, strict=True):
        setting = store.load(name)
        fresh = _fresh(valuation_model(setting), 100_000)
        lines = (
            ("CA-AMA, losses included", "ca-ama", True),
            ("size boosts with fee, opt-out", "size-boost-fee", False),
            ("menus", "lottery-ama", False),
        )
        for (label, method, forced), colour in zip(lines, COLOURS, strict=False):
            curve: list[tuple[int, float]] = []
            _trained(setting, method, share, seed, curve, forced=forced)
            last = curve[-1][0]
            axis.plot([step / last for step, _ in curve], [earned for _, earned in curve], color=colour, label=label)
            rows += [{"setting": name, "line": label, "step": step, "revenue": earned} for step, earned in curve]
        flat = {
            "VCG": float(revenue(vcg(setting.bidders, setting.items).run(fresh)).mean()),
            "surplus: the optimum": float(fresh.amax(1).sum(1).mean()),
        }
        for (label, height), style in zip(flat.items(), ("--", ":"), strict=True):
            axis.axhline(height, color="black", linestyle=style, label=label)
            rows.append({"setting": name, "line": label, "step": 0, "revenue": height})
        axis.set(title=name, xlabel="share of the training", ylabel="hard revenue", ylim=(0, None))
    axes[0, 0].legend(fontsize=8)
    return figure, rows


def _surfaces(share: float, seed: int) -> tuple[Figure, Rows]:
    """Draw ca-ama's figure 3: revenue by bidder 1's two values, bidder 2's being one less each."""
    import torch

    from mechanisms.affine import WithFee
    from mechanisms.outcome import revenue

    setting = store.load("perfect_negative_2x2")
    ticks = torch.linspace(0, 1, 41, dtype=torch.float64)
    first = torch.cartesian_prod(ticks, ticks)
    profiles = torch.stack([first, 1 - first], dim=1)
    fees = _trained(setting, "ca-ama", share, seed)
    if not isinstance(fees, WithFee):
        raise TypeError("ca-ama has a fee")
    surfaces = {
        "the optimum: all surplus": profiles.amax(1).sum(1),
        "CA-AMA, losses included": revenue(replace(fees, opt_out=False).run(profiles)),
        "CA-AMA with opt-out": revenue(fees.run(profiles)),
        "size boosts with fee": revenue(_trained(setting, "size-boost-fee", share, seed).run(profiles)),
        "menus": revenue(_trained(setting, "lottery-ama", share, seed).run(profiles)),
    }
    figure, axes = _axes(1, 5, 19, 3.8)
    rows: Rows = []
    image: Any = None
    for axis, (label, heights) in zip(axes.flat, surfaces.items(), strict=True):
        image = axis.imshow(
            heights.view(41, 41).T.numpy(), origin="lower", extent=(0, 1, 0, 1), vmin=0, vmax=2, cmap="viridis"
        )
        axis.set(title=f"{label}, mean {float(heights.mean()):.3f}", xlabel="value of item 1", ylabel="value of item 2")
        for profile, height in zip(first.tolist(), heights.tolist(), strict=True):
            rows.append({"mechanism": label, "item_1": profile[0], "item_2": profile[1], "revenue": height})
    figure.colorbar(image, ax=axes, label="revenue")
    return figure, rows


def _losses(share: float, seed: int) -> tuple[Figure, Rows]:
    """Draw ca-ama's figure 5: revenue against the mean loss, by the loss that training aims at."""
    from mechanisms.affine import WithFee
    from mechanisms.evaluation import evaluate

    setting = store.load("normal_2x2")
    values = valuation_model(setting)

    def point(label: str, mechanism: Mechanism, target: float | None) -> dict[str, object]:
        result = evaluate(mechanism, values, samples=100_000, seed=12345, searched=50, draws=2)
        figures = {"revenue": result.revenue, "revenue_se": result.revenue_se, "loss": result.ir_loss}
        return {"line": label, "target": target, **figures}

    rows: Rows = []
    for target in TARGETS:
        recipe = msgspec.structs.replace(setting.train["ca-ama"], target=target)
        aimed = msgspec.structs.replace(setting, train={**setting.train, "ca-ama": recipe})
        mechanism = _trained(aimed, "ca-ama", share, seed)
        if not isinstance(mechanism, WithFee):
            raise TypeError("ca-ama has a fee")
        rows.append(point("CA-AMA, losses included", replace(mechanism, opt_out=False), target))
        rows.append(point("CA-AMA with opt-out", mechanism, target))
    for label, method in (("menus", "lottery-ama"), ("item by item, conditional", "item-can")):
        rows.append(point(label, _trained(setting, method, share, seed), None))
    figure, axes = _axes(1, 1, 7, 4.5)
    axis = axes[0, 0]
    forced = [row for row in rows if row["line"] == "CA-AMA, losses included"]
    kept = [row for row in rows if row["line"] == "CA-AMA with opt-out"]
    losses = [row["loss"] for row in forced]
    axis.plot(losses, [row["revenue"] for row in forced], "o-", color=COLOURS[0], label="CA-AMA, losses included")
    axis.plot(losses, [row["revenue"] for row in kept], "s-", color=COLOURS[1], label="the same with opt-out")
    for row, style in zip(rows[-2:], ("--", ":"), strict=True):
        axis.axhline(row["revenue"], color="black", linestyle=style, label=row["line"])
    axis.set(xscale="log", xlabel="mean of the bidders' losses", ylabel="hard revenue", title=setting.name)
    axis.legend(fontsize=8)
    return figure, rows


def _by_profile(size: str, scenarios: int, best: dict[int, float]) -> Callable[[float, int], tuple[Figure, Rows]]:
    """Return what draws revenue per participation profile, against its optimum and against its probability.

    Args:
        size: Of the settings `participation_SIZE_uniform_sN`.
        scenarios: How many there are.
        best: Best exactly truthful revenue known, by number of present bidders (reference results, section 1).
    """

    def make(share: float, seed: int) -> tuple[Figure, Rows]:
        from credible.records.values import participation_model
        from credible.reproduce import profile_texts
        from mechanisms.evaluation import evaluate
        from mechanisms.participation import Profiles, WithParticipation

        labels = {
            "algnet": "ALGNet, tweaked",
            "aggregated": "stage auctions",
            "aggregated-generator": "generated stage auctions",
        }
        figure, axes = _axes(2, scenarios, 4 * scenarios, 6.5)
        rows: Rows = []
        for scenario in range(1, scenarios + 1):
            setting = store.load(f"participation_{size}_uniform_s{scenario}")
            everybody = valuation_model(msgspec.structs.replace(setting, participation={}))
            model = participation_model(setting)
            if model is None:
                raise TypeError(f"{setting.name} has no participation")
            present, chances = model.profiles()
            kept = [k for k in chances.argsort(descending=True).tolist() if present[k].any()]
            ticks = profile_texts(present[kept])
            optima = [best[int(present[k].sum())] for k in kept]
            above, below = axes[0, scenario - 1], axes[1, scenario - 1]
            above.plot(range(len(kept)), optima, "k_", markersize=18, label="best exactly truthful known")
            for (method, label), colour, mark in zip(labels.items(), COLOURS, "osx", strict=False):
                mechanism = _trained(setting, method, share, seed)
                earned = []
                for place, k in enumerate(kept):
                    only = WithParticipation(everybody, Profiles(present[k : k + 1], chances.new_ones(1)))
                    result = evaluate(mechanism, only, samples=SAMPLES, seed=12345, searched=200, draws=20)
                    earned.append(result.revenue)
                    rows.append(
                        {
                            "setting": setting.name, "profile": ticks[place], "probability": float(chances[k]),
                            "method": method, "revenue": result.revenue, "revenue_se": result.revenue_se,
                            "regret": result.regret, "regret_kind": result.regret_kind, "best_known": optima[place],
                        }
                    )  # fmt: skip
                above.plot(range(len(kept)), earned, mark, color=colour, label=label)
                shares = [revenue / optimum for revenue, optimum in zip(earned, optima, strict=True)]
                below.plot([float(chances[k]) for k in kept], shares, mark, color=colour, label=label)
            above.set(title=f"scenario {scenario}", xlabel="profile, the most frequent first", ylabel="revenue")
            above.set_xticks(range(len(kept)), ticks)
            below.axhline(1, color="black", linewidth=0.8)
            below.set(xscale="log", xlabel="probability of the profile", ylabel="revenue over the best known")
            marks = sorted({round(float(chances[k]), 3) for k in kept})
            below.set_xticks(marks, [f"{mark:g}" for mark in marks], rotation=45)
            below.set_xticks([], minor=True)  # the scale's own labels run into each other
            for axis in (above, below):
                axis.set_ylim(bottom=0)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9)
        return figure, rows

    return make


FIGURES: Final[dict[str, tuple[tuple[str, Callable[[float, int], tuple[Figure, Rows]]], ...]]] = {
    "lottery-ama": (
        ("figure-3-menu-unit_2x4_spherical", _menu_of("unit_2x4_spherical", "lottery-ama")),
        ("figure-4-menu-additive_2x2_uniform", _menu_of("additive_2x2_uniform", "lottery-ama")),
    ),
    "ca-ama": (
        ("figures-2-and-4-training", _curves),
        ("figure-3-revenue-surfaces", _surfaces),
        ("figure-5-revenue-and-losses", _losses),
    ),
    "credible-auctions": (
        ("profiles-2x2", _by_profile("2x2", 3, {1: 0.549201, 2: 0.874403})),
        ("profiles-3x10", _by_profile("3x10", 3, {1: 3.477793, 2: 5.000, 3: 5.942})),
    ),
}


def names(paper: str) -> Iterator[str]:
    """Return the names of a paper's figures."""
    return (name for name, _ in FIGURES[paper])
