"""The written gradient against the textbook surrogate by autograd, and what revenue both reach in the same time."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from benchmarks.timing import medians
from credible import settings as store
from credible.records.values import valuation_model
from credible.runs import objective_of, schedule_of
from mechanisms.evaluation.measures import mean_and_error
from mechanisms.outcome import revenue
from mechanisms.training import LotteryAMA, Schedule, TextbookAMA, train
from mechanisms.training.loop import step_generator
from mechanisms.valuations import Uniform

SIZES = ((2, 2, 32, 2048), (2, 5, 256, 2048), (3, 10, 512, 1024), (3, 10, 2048, 1024))
BUDGETS = (
    ("additive_2x2_uniform", "lottery-ama", 150, 0.868),
    ("additive_2x5_uniform", "lottery-ama", 50, 2.2768),
    ("additive_3x10_uniform", "lottery-ama", 70, 5.5896),
    ("additive_3x10_uniform", "lottery-ama", 600, 5.75),
    ("additive_3x10_uniform", "size-boost", 300, 5.9),
)  # setting, method, iterations, the revenue to reach


def iterations() -> None:
    """Print how much faster an iteration is."""
    for bidders, items, entries, batch in (
        (2, 2, 32, 2048),
        (2, 5, 256, 2048),
        (3, 10, 512, 1024),
        (3, 10, 2048, 1024),
    ):
        objective = LotteryAMA(bidders, items, entries, 3.0, step_generator(0, 4, 0))
        values = Uniform(bidders, items).sample(batch, step_generator(0, 1, 0)).float()
        other = TextbookAMA(bidders, items, entries, 3.0, step_generator(0, 4, 0))
        times = medians(
            {
                "written": lambda o=objective, v=values: o.gradients(v, 50.0),
                "textbook": lambda o=other, v=values: o.gradients(v, 50.0),
            },
            5,
        )
        print(
            f"{bidders}x{items}, menu {objective.boosts.shape[1]}, batch {batch}: "
            f"{times['written'] * 1e3:.2f} ms an iteration, "
            f"{times['textbook'] / times['written']:.1f}x faster than the textbook form"
        )


def budgets() -> None:
    """Print revenue and seconds of short trainings, and what the textbook surrogate reaches in the same time."""
    warm = LotteryAMA(2, 2, 0, 5.0, step_generator(0, 4, 0))  # the first step of an optimiser imports a second's worth
    train(warm, Uniform(2, 2), Schedule(2, 8, 8, 1, 1, 0.1), seed=0)
    for name, method, count, goal in BUDGETS:
        setting = store.load(name)
        values = valuation_model(setting)
        fresh = values.sample(100_000, step_generator(123, 9, 0))
        objective = objective_of(setting, method, 0)
        begun = time.perf_counter()
        result = train(objective, values, replace(schedule_of(setting, method, count), every=10**6), seed=0)
        seconds = time.perf_counter() - begun
        mean, error = mean_and_error(revenue(objective.mechanism(result.best, values.scale).run(fresh)))
        theirs = TextbookAMA(setting.bidders, setting.items, 256, 1.0, step_generator(0, 4, 0))
        begun, steps, batch = time.perf_counter(), 5, 1024
        train(theirs, values, Schedule(steps, batch, batch, 100, 100, 0.01, every=10**6), seed=1)
        steps = max(5, int(seconds / ((time.perf_counter() - begun) / steps)))
        theirs = TextbookAMA(setting.bidders, setting.items, 256, 1.0, step_generator(0, 4, 0))
        train(theirs, values, Schedule(steps, batch, batch, 100, 100, 0.01, every=10**6), seed=0)
        other, _ = mean_and_error(revenue(theirs.mechanism(0, values.scale).run(fresh)))
        print(
            f"{name}, {method}: {mean:.4f} +- {error:.4f} after {count} iterations, {seconds:.2f} s (wanted {goal}); "
            f"the papers' surrogate {other:.4f} after {steps} iterations in that time"
        )


def main() -> None:
    """Print both."""
    torch.set_num_threads(1)
    iterations()
    budgets()


if __name__ == "__main__":
    main()
