"""credible tune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from credible import settings as store
from credible.cli.common import Json, UsageError, bar, show
from credible.runs import NETWORKS

STUDY: Final = Path("tune.db")


def tune(
    setting: Annotated[str, typer.Argument(help="Named setting, or a TOML file.")],
    method: Annotated[str, typer.Option(help=f"What to train: {', '.join(store.METHODS)}.")] = "lottery-ama",
    trials: Annotated[int, typer.Option(help="Trials in all, those in the file included.", min=1)] = 30,
    study: Annotated[Path, typer.Option(help="SQLite file of the trials; an interrupted search goes on.")] = STUDY,
    seed: Annotated[int, typer.Option(help="Of every training.", min=0)] = 0,
    iterations: Annotated[int | None, typer.Option(help="Steps of a trial, in place of the recipe's.", min=1)] = None,
    jobs: Annotated[int, typer.Option(help="Trials that are trained side by side.", min=1)] = 1,
    json: Json = False,
) -> None:
    """Search a setting's recipe for more revenue, of networks at less regret: rates, temperatures, penalty weights."""
    if method not in store.METHODS:
        raise UsageError(f"method {method!r}, wanted one of {', '.join(store.METHODS)}")
    chosen = store.load(setting)
    from credible.tuning import REGRET_WEIGHT, as_toml, search

    with bar(f"tuning {chosen.name}", trials, quiet=json) as progress:
        found = search(
            chosen, method, study, trials=trials, seed=seed, iterations=iterations, jobs=jobs,
            finished=lambda number, _: progress.to(number + 1),
        )  # fmt: skip
    text = as_toml(method, found.recipe, chosen.train[method])
    result = {
        "study": str(study),
        "trials": found.trials,
        "pruned": found.pruned,
        "revenue": found.revenue,
        "base_revenue": found.base,
        "recipe": msgspec.to_builtins(found.recipe),
        "files": [str(file) for file in found.files],
    }
    measure = "revenue"
    if method in NETWORKS:
        measure = f"revenue - {REGRET_WEIGHT:g} x regret (by the auditor, summed over bidders):"
    show(
        result,
        [
            f"{study}: {found.trials} trials, {found.pruned} ended early; {measure} {found.revenue:.5f}, "
            f"{found.base:.5f} with the setting's own recipe; every trial in {found.files[0]}",
            text,
            "The best of many trials is a little lucky: train with it and evaluate on fresh draws.",
        ],
        as_json=json,
    )
