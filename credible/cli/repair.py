"""credible repair."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from credible.cli.common import Json, UsageError, need_new, open_run, show
from credible.cli.export import compiled
from credible.records.values import valuation_model
from credible.runs import classics
from protocol.storage.files import write_file


def repair(
    source: Annotated[Path, typer.Argument(help="Run folder of a network.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="FILE.onnx to write the best repair to; its card beside it.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Fresh profiles for revenue.", min=2)] = 200_000,
    seed: Annotated[int, typer.Option(help="Decides every draw.", min=0)] = 12345,
    json: Json = False,
) -> None:
    """Turn a network into exactly truthful auctions without retraining; say how much of its revenue survives."""
    if output is not None:
        need_new(output)
    import torch

    from mechanisms.affine import AffineMaximizer
    from mechanisms.evaluation import audit_values, evaluate
    from mechanisms.evaluation.measures import surviving_revenue
    from mechanisms.networks.network import Network
    from mechanisms.outcome import Mechanism
    from mechanisms.repair import repairs
    from protocol.artifact.card import write_card

    torch.set_num_threads(1)
    if source.is_file():
        raise UsageError(f"{source} is a file: networks are repaired from their run folder")
    setting, network, config = open_run(source)
    if network.truthful:
        raise UsageError(f"{source}: {config['method']} is exactly truthful already")
    if not isinstance(network, Network) or setting.demand != "additive":
        raise UsageError(f"{source}: {config['method']} on {setting.name}, wanted a network for additive bidders")
    values = valuation_model(setting)
    measured = evaluate(network, values, samples=samples, seed=seed, searched=2, draws=0)
    audit = audit_values(network, values, profiles=200, seed=seed)
    rows: list[dict[str, Any]] = []
    made: dict[str, Mechanism] = {}
    started = time.perf_counter()
    for name, auction in repairs(network, values, seed=seed + 1).items():
        result = evaluate(auction, values, samples=samples, seed=seed, searched=500, draws=20)
        made[name] = auction
        rows.append({
            "repair": name, "revenue": result.revenue, "revenue_se": result.revenue_se,
            "regret_found": result.regret_found, "overallocation": result.overallocation,
            "ir_violation": result.ir_violation, "share": result.revenue / measured.revenue,
        })  # fmt: skip
    seconds = time.perf_counter() - started
    baselines = {
        name: evaluate(rival, values, samples=samples, seed=seed, searched=2, draws=0).revenue
        for name, rival in classics(setting, seed).items()
    }
    best = max(rows, key=lambda row: float(row["revenue"]))
    classic = max(baselines, key=lambda name: baselines[name])
    repaired = float(best["revenue"]) > baselines[classic] + 2 * float(best["revenue_se"])
    survives = surviving_revenue(measured.revenue, audit.regret) if network.bidders == 1 else None
    figures: dict[str, Any] = {
        "setting": setting.name, "method": config["method"], "revenue": measured.revenue,
        "revenue_se": measured.revenue_se, "regret_found": audit.regret, "survives_by_theorem": survives,
        "repairs": rows, "baselines": baselines, "best": best["repair"], "best_classic": classic,
        "repaired": repaired, "seconds": round(seconds, 1),
    }  # fmt: skip

    def share(earned: float) -> str:
        return f"{earned / measured.revenue:.1%}" if measured.revenue > 0.2 * baselines[classic] else "-"

    table = Table("auction", "revenue", "of the network's", "truthful", title=f"{source}: {setting.name}")
    table.add_row(
        f"{config['method']}, as trained", f"{measured.revenue:.4f} +- {measured.revenue_se:.4f}", "",
        f"no: regret {audit.regret:.5f} found",
    )  # fmt: skip
    for row in rows:
        shown = f"{row['revenue']:.4f} +- {row['revenue_se']:.4f}"
        kind = "exactly" if isinstance(made[str(row["repair"])], AffineMaximizer) else "exactly; no artifact"
        table.add_row(f"repaired: {row['repair']}", shown, share(float(row["revenue"])), kind)
    for name, earned in baselines.items():
        table.add_row(name.replace("_", " "), f"{earned:.4f}", share(earned), "exactly")
    verdict = (
        f"{best['repair']} earns more than the best classic auction here, {classic.replace('_', ' ')}"
        if repaired
        else f"failed repair: none earns more than {classic.replace('_', ' ')}, which needs no network"
    )
    theorem = (
        f"One bidder: some truthful auction earns at least (sqrt rev - sqrt rgt)^2 = {survives:.4f}, if the regret "
        "found is all there is."
        if survives is not None
        else "No theorem says how much of a network's revenue survives with more than one bidder."
    )
    if output is not None:
        exact = [row for row in rows if isinstance(made[str(row["repair"])], AffineMaximizer)]  # others have no class
        chosen = str(max(exact, key=lambda row: float(row["revenue"]))["repair"])
        artifact, compared = compiled(made[chosen], setting, int(config["seed"]))
        write_file(output, artifact.data)
        write_card(output, artifact, measured={**compared, "repaired": chosen})
        figures["file"], figures["exported"] = str(output), chosen
        verdict += f". Written: {output}, {chosen}" + (
            "" if chosen == best["repair"] else ", as the best has no artifact"
        )
    table.caption = f"{verdict}. {theorem}"
    show(figures, table, as_json=json)
