"""Training on a GPU: iterations a second by menu size, the papers' 32,000 iterations, what larger menus buy.

Every line is printed as JSON when it is measured. `--device cpu --small` runs the same code in a minute.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace

import torch

from credible import settings as store
from credible.records.values import valuation_model
from credible.runs import objective_of, schedule_of
from mechanisms.affine import AffineMaximizer
from mechanisms.evaluation.measures import mean_and_error
from mechanisms.outcome import revenue
from mechanisms.training import LotteryAMA, Objective, Schedule, TextbookAMA, train
from mechanisms.training.loop import step_generator
from mechanisms.valuations import Uniform, ValuationModel

PAPER = (
    ("dirichlet_05_2x2", 2, 2, 32, 2048, 14),
    ("dirichlet_05_2x5", 2, 5, 256, 2048, 26),
    ("dirichlet_05_3x10", 3, 10, 2048, 1024, 52),
    ("dirichlet_05_5x5", 5, 5, 2048, 1024, 110),
)  # setting, bidders, items, menu, batch, minutes on an A800: ca-ama, tables 2 and 3


def say(**line: object) -> None:
    """Print one line."""
    print(json.dumps(line), flush=True)


def timed(objective: Objective, values: ValuationModel, schedule: Schedule, device: torch.device) -> float:
    """Return the seconds of a training, everything in it."""
    begun = time.perf_counter()
    train(objective, values, schedule, seed=0, device=device)
    return time.perf_counter() - begun


def measured(mechanism: object, values: ValuationModel, samples: int, device: torch.device) -> tuple[float, float]:
    """Return hard revenue and its standard error on fresh draws; menus are run on the device."""
    on_device = isinstance(mechanism, AffineMaximizer)
    fresh = values.sample(samples if on_device else min(samples, 200_000), step_generator(123, 9, 0))
    if isinstance(mechanism, AffineMaximizer):
        on = AffineMaximizer(*(part.to(device) for part in (mechanism.menu, mechanism.boosts, mechanism.weights)))
        return mean_and_error(revenue(on.run(fresh.to(device))).cpu())
    return mean_and_error(revenue(mechanism.run(fresh)))  # type: ignore[attr-defined]


def speed(device: torch.device, menus: list[int], steps: int) -> None:
    """Iterations a second at 3 x 10, batch 2,048, ours and the textbook form."""
    values = Uniform(3, 10)
    timed(LotteryAMA(2, 2, 0, 3.0, step_generator(0, 4, 0)), Uniform(2, 2), Schedule(5, 64, 64, 5, 60, 0.01), device)
    for entries in menus:
        for name, kind in (("ours", LotteryAMA), ("textbook", TextbookAMA)):
            if name == "textbook" and entries > 8192:
                continue  # (batch, menu, bidders, items) does not fit
            rates = []
            for count in (steps // 4, steps):  # the difference of two runs leaves the start-up out
                objective = kind(3, 10, entries, 3.0, step_generator(0, 4, 0))
                schedule = Schedule(count, 2048, 2048, 5, 60, 0.01, every=10**9)
                rates.append(timed(objective, values, schedule, device))
            rate = (steps - steps // 4) / (rates[1] - rates[0])
            say(part="speed", method=name, menu=entries, batch=2048, iterations_per_second=round(rate, 1))


def paper(device: torch.device, names: list[str], iterations: int, samples: int) -> None:
    """The papers' sizes: free menus and size boosts with fees against minutes and revenue that ca-ama reports."""
    for name, bidders, items, entries, batch, minutes in PAPER:
        if name not in names:
            continue
        setting = store.load(name)
        values = valuation_model(setting)
        for method in ("lottery-ama", "size-boost-fee"):
            recipe = schedule_of(setting, method, iterations)
            if method == "lottery-ama":
                objective: Objective = LotteryAMA(bidders, items, entries, 3.0, step_generator(0, 4, 0))
                schedule = Schedule(
                    iterations, batch, batch, recipe.temperature_start, recipe.temperature_end, 0.03, 0.01, 10**9
                )
            else:
                objective = objective_of(setting, method, 0, starts=1)
                schedule = replace(recipe, iterations=iterations // 4, batch_start=2048, batch_end=2048, every=10**9)
            seconds = timed(objective, values, schedule, device)
            mean, error = measured(objective.mechanism(0, values.scale), values, samples, device)
            say(
                part="paper", setting=name, method=method, iterations=schedule.iterations, seconds=round(seconds, 1),
                theirs_minutes=minutes, times_less=round(60 * minutes / seconds, 1), revenue=round(mean, 4),
                revenue_se=round(error, 4),
            )  # fmt: skip


def larger(device: torch.device, menus: list[int], iterations: int, samples: int) -> None:
    """Revenue by menu size at 3 x 10 uniform."""
    values = Uniform(3, 10)
    for entries in menus:
        objective = LotteryAMA(3, 10, entries, 3.0, step_generator(0, 4, 0))
        schedule = Schedule(iterations, 2048, 2048, 5, 60, 0.1, 0.03, 10**9)
        seconds = timed(objective, values, schedule, device)
        mean, error = measured(objective.mechanism(), values, samples, device)
        say(
            part="larger", menu=entries, iterations=iterations, seconds=round(seconds, 1), revenue=round(mean, 4),
            revenue_se=round(error, 4),
        )  # fmt: skip


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--part", action="append", choices=["speed", "paper", "larger"])
    parser.add_argument("--small", action="store_true", help="a hundredth of the work: that it runs")
    parser.add_argument("--iterations", type=int, default=32_000)
    parser.add_argument("--setting", action="append", help="of the part `paper`")
    given = parser.parse_args()
    device, small = torch.device(given.device), given.small
    say(device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu", torch=torch.__version__)
    parts = given.part or ["speed", "paper", "larger"]
    if "speed" in parts:
        speed(device, [128] if small else [512, 2048, 8192, 32_768, 65_536], 8 if small else 800)
    if "paper" in parts:
        names = given.setting or [line[0] for line in PAPER]
        paper(device, names, 20 if small else given.iterations, 2000 if small else 1_000_000)
    if "larger" in parts:
        larger(
            device, [128] if small else [2048, 8192, 32_768, 65_536], 10 if small else 3000, 2000 if small else 100_000
        )


if __name__ == "__main__":
    main()
