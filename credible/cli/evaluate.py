"""credible evaluate."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from credible import settings as store
from credible.cli.common import Json, UsageError, err, open_run, read_input, show
from credible.records.tsuchiura import CAVEAT
from credible.records.values import valuation_model
from credible.runs import classics, load_run
from protocol.artifact import Sandbox
from protocol.artifact.header import MAX_BYTES
from protocol.errors import MalformedError

if TYPE_CHECKING:
    from torch import Tensor

    from mechanisms.networks.network import Network


def evaluate(
    source: Annotated[Path, typer.Argument(help="Run folder, or an artifact FILE.onnx.")],
    samples: Annotated[int, typer.Option(help="Fresh profiles for revenue, IR and feasibility.", min=2)] = 200_000,
    setting: Annotated[str | None, typer.Option(help="Values to evaluate an artifact on.")] = None,
    seed: Annotated[int, typer.Option(help="Decides every draw.", min=0)] = 12345,
    audit: Annotated[int, typer.Option(help="Profiles that the regret auditor searches; 0 for none.", min=0)] = 0,
    certify: Annotated[
        int, typer.Option(help="Seconds for each bidder's certified upper bound of regret; networks only.", min=0)
    ] = 0,
    json: Json = False,
) -> None:
    """Measure revenue with its standard error, regret with its search, IR and feasibility, beside baselines."""
    if certify and not audit:
        raise UsageError("--certify closes in on what --audit finds: give --audit N as well")
    network = certifiable(source) if certify else None
    figures, chosen = measured(source, setting, samples=samples, seed=seed, audit=audit)
    if network is not None:
        figures["certificates"] = certified(*network, figures, seconds=certify)
    ceiling = figures["surplus"]
    table = Table("measure", "value", title=f"{source}, values of {chosen.name}")
    table.add_row("revenue", f"{figures['revenue']:.5f} +- {figures['revenue_se']:.5f}")
    for name, row in figures["baselines"].items():
        table.add_row(f"  {name.replace('_', ' ')}", f"{row['revenue']:.5f} +- {row['revenue_se']:.5f}")
    table.add_row("full surplus", f"{ceiling:.5f}")
    table.add_row("auctioneer regret: surplus - revenue", f"{ceiling - figures['revenue']:.5f}")
    table.add_row("efficiency", f"{figures['welfare'] / ceiling:.4f}" if ceiling else "-")
    table.add_row("regret, largest over bidders of the mean", f"{figures['regret']:.3g} ({figures['regret_kind']})")
    table.add_row(
        "  quick search, bids beyond the values too", f"{figures['regret_found']:.3g} ({figures['regret_search']})"
    )
    table.add_row("IR violation", f"{figures['ir_violation']:.3g}")
    table.add_row("overallocation", f"{figures['overallocation']:.3g}")
    table.add_row("samples", str(figures["samples"]))
    if audit:
        for name, value in audit_rows(figures["audit"]):
            table.add_row(name, value)
    for row in figures.get("certificates", []):
        table.add_row(
            f"certified: bidder {row['bidder']}, largest gain of any lie in the range of values",
            f"{row['found']:.6f} to {row['largest']:.6f}" + ("" if row["closed"] else ", stopped by the time limit"),
        )
        table.add_row("  mean regret", f"at most {row['mean']:.6f} (on the auditor's profiles {row['mean_found']:.6f})")
        if row["survives"] is not None:
            table.add_row("  some truthful auction earns at least", f"{row['survives']:.5f}")
    if chosen.values["kind"] == store.RECORD:
        err.print(CAVEAT)
    show(figures, table, as_json=json)


def measured(
    source: Path, setting: str | None = None, *, samples: int, seed: int = 12345, audit: int = 0
) -> tuple[dict[str, Any], store.Setting]:
    """Return what `credible evaluate --json` prints of a run or an artifact, and the setting it is for.

    Args:
        source: Run folder or artifact.
        setting: Values to evaluate an artifact on.
        samples: Fresh profiles.
        seed: Decides every draw.
        audit: Profiles that the regret auditor searches; none if 0.

    Raises:
        MalformedError: If there is nothing.
        UsageError: If a run comes with another setting, or an artifact without one or with one that it does not fit.
    """
    if not source.exists():
        raise MalformedError(f"{source}: no such run folder or artifact")
    is_run = source.is_dir()
    if is_run and setting is not None:
        raise UsageError(f"{source} is a run, which has its own setting: leave --setting out")
    if not is_run and setting is None:
        raise UsageError("an artifact is evaluated on the values of a setting: give --setting NAME")
    data = b"" if is_run else read_input(source, MAX_BYTES)
    import torch

    from mechanisms.evaluation import audit_values, evaluate_exact
    from mechanisms.evaluation import evaluate as measure
    from mechanisms.evaluation.exact import ExactMechanism
    from mechanisms.evaluation.measures import fresh

    torch.set_num_threads(1)
    if is_run:
        chosen, mechanism, _ = open_run(source)
        values = valuation_model(chosen, held_out=True)
        result = measure(mechanism, values, samples=samples, seed=seed)
    else:
        from protocol.artifact.engine import Engine

        chosen = store.load(setting or "")
        values = valuation_model(chosen, held_out=True)
        with Sandbox(data) as checked:  # the limits of a foreign file apply before it is loaded here
            certified = checked.summary.certified
        engine = Engine(data)
        header, grid = engine.artifact.header, chosen.grid_unit()
        if (header.bidders, header.items) != (chosen.bidders, chosen.items) or header.context:
            raise UsageError(f"the artifact is for {header.bidders} x {header.items}, the setting for "
                             f"{chosen.bidders} x {chosen.items} without context")  # fmt: skip
        if (header.bid_max, header.share_bits) != (grid.bid_max, grid.share_bits):
            raise UsageError("the artifact's grid is not the setting's: their units would differ")
        bids = grid.to_grid(torch.cat(list(fresh(values, samples, seed))).numpy())
        result = evaluate_exact(engine, bids, unit=Fraction(grid.unit), certified=certified, seed=seed)
    rivals = {
        name: measure(rival, values, samples=samples, seed=seed, searched=2, draws=0)
        for name, rival in classics(chosen, seed).items()
    }
    baselines = {name: {"revenue": r.revenue, "revenue_se": r.revenue_se} for name, r in rivals.items()}
    ceiling = rivals["vcg"].welfare  # VCG is efficient: its welfare is the full surplus
    if result.revenue > ceiling + 5 * result.revenue_se:
        err.print(f"revenue {result.revenue:.5f} is above the full surplus {ceiling:.5f}: the evaluation is wrong")
    figures = {
        "source": str(source),
        "setting": chosen.name,
        **asdict(result),
        "baselines": baselines,
        "surplus": ceiling,
        "auctioneer_regret": ceiling - result.revenue,
    }
    if audit:
        audited = mechanism if is_run else ExactMechanism(engine, Fraction(grid.unit), certified=certified)
        # an artifact takes every bid of its grid, whatever the values are
        admitted = None if is_run else (0.0, float(grid.bid_max * Fraction(grid.unit)))
        found = audit_values(audited, values, profiles=audit, seed=seed, admitted=admitted)
        figures["audit"] = {**asdict(found), "reports": "values" if is_run else "grid", "unfinished": found.unfinished}
        if found.regret > figures["regret"] and not audited.truthful:
            figures["regret"] = found.regret
            figures["regret_search"] += f"; the auditor found more on {audit} profiles"
    return figures, chosen


def certifiable(source: Path) -> tuple[Network, Tensor, Tensor]:
    """Return a run's network and the range of values, if there are certified bounds for it.

    Raises:
        UsageError: If it is no such network, or the mean has no meaning on these values.
    """
    if not source.is_dir():
        raise UsageError(f"{source}: certified bounds are of a trained network; give its run folder")
    from mechanisms.evaluation.certified import Enclosure, uniform_range
    from mechanisms.networks.network import Network

    setting, network, config = load_run(source)
    box = uniform_range(valuation_model(setting))
    what = f"{source} ({config['method']} on {setting.name})"
    if not isinstance(network, Network):
        raise UsageError(f"{what}: certified bounds are of networks; what is truthful by a theorem needs none")
    if box is None:
        raise UsageError(f"{what}: certified bounds are for independent uniform values")
    try:
        Enclosure(network, 0)
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from error
    return network, *box


def certified(
    network: Network, low: Tensor, high: Tensor, figures: dict[str, Any], *, seconds: int
) -> list[dict[str, Any]]:
    """Return certified intervals of every bidder's regret; the log of each goes to stderr as it comes.

    Args:
        network: A network that has certified bounds.
        low: Least value of each bidder and item, (bidders, items), in units of value.
        high: Greatest value.
        figures: What `measured` returned of it, the audit included.
        seconds: Time limit of each bidder.
    """
    from mechanisms.evaluation import certify_regret, surviving_revenue
    from mechanisms.evaluation.certified import Round

    rows = []

    def line(done: Round) -> None:
        err.print(
            f"{done.seconds:8.1f} s, {done.pairs:11,} pairs, {done.cells:9,} cells: largest {done.found:.6f} to "
            f"{done.largest:.6f}, mean up to {done.mean:.6f}",
            highlight=False,
        )

    for bidder in range(network.bidders):
        mean, largest = figures["audit"]["mean"][bidder], figures["audit"]["largest"][bidder]
        found = certify_regret(
            network, bidder, low=low, high=high, seconds=seconds, found=(mean, largest), progress=line
        )
        earned = figures["revenue"] - 3 * figures["revenue_se"]
        survives = surviving_revenue(earned, found.mean) if network.bidders == 1 else None
        rows.append({**asdict(found), "mean_found": mean, "survives": survives})
    return rows


def audit_rows(audit: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the auditor found, for a table."""
    rows = [
        (f"auditor: bidder {bidder}, mean; 50, 90, 99 %; largest", f"{mean:.6f}; {parts}; {largest:.6f}")
        for bidder, (mean, quantiles, largest) in enumerate(
            zip(audit["mean"], audit["quantiles"], audit["largest"], strict=True)
        )
        for parts in [", ".join(f"{value:.6f}" for value in quantiles)]
    ]
    worst = audit["worst"]
    profile = "; ".join(" ".join(f"{value:.4f}" for value in row) for row in worst["profile"])
    report = " ".join(f"{value:.4f}" for value in worst["report"])
    rows.append(("  worst profile, by bidder", profile))
    rows.append(("  its lie, gain", f"{report}, {worst['gain']:.6f}"))
    space = "of the artifact's grid" if audit["reports"] == "grid" else "within the range of the values"
    rows.append(("  lies searched", f"{space}{', still finding more when it ended' if audit['unfinished'] else ''}"))
    rows += [
        (
            f"  after {stage['stage']}, {stage['reports']:,} reports",
            f"{stage['mean']:.6f}; largest {stage['largest']:.6f}",
        )
        for stage in audit["curve"]
    ]
    return rows
