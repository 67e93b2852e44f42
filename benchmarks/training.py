"""The written gradient against the textbook surrogate by autograd; revenue on 2x2 U[0, 1] and its time."""

from __future__ import annotations

import time

import torch

from benchmarks.timing import medians
from mechanisms.outcome import revenue
from mechanisms.training import LotteryAMA, Schedule, TextbookAMA, train
from mechanisms.training.loop import step_generator
from mechanisms.valuations import Uniform


def main() -> None:
    """Print the ratios."""
    torch.set_num_threads(1)
    for bidders, items, entries, batch in ((2, 2, 32, 2048), (2, 5, 256, 2048), (3, 10, 512, 1024)):
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
    objective, values_2x2 = LotteryAMA(2, 2, 0, 5.0, step_generator(0, 4, 0)), Uniform(2, 2)
    fresh = values_2x2.sample(1_000_000, step_generator(123, 9, 0))
    started = time.perf_counter()
    train(objective, values_2x2, Schedule(600, 128, 2048, 20.0, 300.0, 0.03, every=600), seed=0)
    seconds = time.perf_counter() - started
    paid = revenue(objective.mechanism().run(fresh))
    error = paid.std() / len(paid) ** 0.5
    print(f"2x2 U[0, 1]: revenue {paid.mean():.5f} +- {error:.5f} after {seconds:.2f} s of training")
