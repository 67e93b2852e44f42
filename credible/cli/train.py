"""credible train."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from credible import settings as store
from credible.cli.common import Json, UsageError, bar, show
from credible.records.values import valuation_model
from credible.runs import objective_of, schedule_of

NOT_TRUTHFUL: Final = (
    "Not truthful by a theorem: part of this revenue may be regret. credible evaluate {} --audit 200 searches for it."
)


def train(
    setting: Annotated[str, typer.Argument(help="Named setting, or a TOML file.")],
    method: Annotated[str, typer.Option(help=f"What to train: {', '.join(store.METHODS)}.")] = "lottery-ama",
    out: Annotated[Path | None, typer.Option(help="Run folder to write; runs/SETTING-METHOD-SEED if left out.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    seed: Annotated[int, typer.Option(help="Decides every draw.", min=0)] = 0,
    iterations: Annotated[int | None, typer.Option(help="Steps, in place of the setting's.", min=1)] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; small menus are fastest with one.", min=1)] = 1,
    json: Json = False,
) -> None:
    """Train a revenue-maximizing auction and keep the run in a folder."""
    if method not in store.METHODS:
        raise UsageError(f"method {method!r}, wanted one of {', '.join(store.METHODS)}")
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device {device!r}, wanted auto, cpu or cuda")
    chosen = store.load(setting)
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda, but torch sees no GPU")
    varying = method in chosen.train and chosen.train[method].varying
    if device == "cuda" and varying:
        raise UsageError(
            f"{chosen.name}: {method} trains for many sizes at once, which a recorded step cannot; use cpu"
        )
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() and not varying else "cpu")

    from mechanisms.training import train as train_loop
    from mechanisms.training.run import RunError, RunFolder

    torch.set_num_threads(threads)
    objective = objective_of(chosen, method, seed)
    schedule = schedule_of(chosen, method, iterations)
    values = valuation_model(chosen)
    config = {
        "method": method,
        "seed": seed,
        "iterations": schedule.iterations,
        "setting": msgspec.to_builtins(chosen),
        "scale": values.scale,
    }
    folder = out or Path("runs") / f"{chosen.name}-{method}-{seed}"
    started = time.perf_counter()
    try:
        run = RunFolder(folder, config, resume=resume)
        with bar(f"training {chosen.name}", schedule.iterations, quiet=json) as progress:
            result = train_loop(
                objective, values, schedule, seed=seed, run=run, device=where,
                progress=lambda step, revenue: progress.to(step, f"held-out hard revenue {revenue:.5f}"),
            )  # fmt: skip
    except FileExistsError as error:
        raise UsageError(f"{folder} exists; use --resume to go on, or choose another --out") from error
    except RunError as error:
        raise UsageError(str(error)) from error
    seconds = time.perf_counter() - started
    validation = result.validation[result.best]
    worst = f" (worst of {objective.starts} starts {min(result.validation):.5f})" if objective.starts > 1 else ""
    show(
        {
            "run": str(folder),
            "iterations": result.step,
            "validation_revenue": validation,
            "starts": list(result.validation),
            "seconds": round(seconds, 3),
            "device": where.type,
        },
        [
            f"{folder}: {result.step} iterations in {seconds:.1f} s, held-out hard revenue {validation:.5f}{worst}",
            *([] if objective.mechanism(result.best, values.scale).truthful else [NOT_TRUTHFUL.format(folder)]),
        ],
        as_json=json,
    )
