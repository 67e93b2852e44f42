"""Revenue of the hard mechanism on 10^6 fresh draws, setting by setting, beside what was aimed at.

Trains by the settings' recipes, as `credible train SETTING --method METHOD --seed SEED` does, on one thread.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch

from credible import settings as store
from credible.records.values import valuation_model
from credible.runs import objective_of, schedule_of
from mechanisms.evaluation import evaluate
from mechanisms.training import train

GOALS = (
    ("additive_2x2_uniform", "size-boost", 0.8744, 0.876),
    ("additive_2x3_uniform", "size-boost", 1.355, 1.36),
    ("additive_2x5_uniform", "size-boost", 2.360, 2.37),
    ("additive_2x10_uniform", "size-boost", 5.00, None),
    ("additive_3x10_uniform", "size-boost", 5.94, 6.0),
    ("additive_5x10_uniform", "size-boost", 7.05, 7.1),
    ("unit_2x2_uniform", "deterministic-ama", 0.714, None),
    ("additive_1x2_uniform", "size-boost", 0.5490, None),
    ("additive_1x10_uniform", "size-boost", 3.47, None),
    ("dirichlet_05_2x2", "size-boost-fee", 0.83, None),
    ("dirichlet_05_2x5", "size-boost-fee", 2.28, None),
    ("dirichlet_05_3x10", "size-boost-fee", 3.65, None),
    ("dirichlet_05_5x5", "size-boost-fee", 1.31, None),
    ("linear_convex_06_sym_2x5", "size-boost-fee", 2.57, None),
    ("linear_convex_08_sym_2x5", "size-boost-fee", 2.98, None),
    ("linear_convex_06_asym_2x5", "size-boost-fee", 1.87, None),
    ("linear_convex_08_asym_2x5", "size-boost-fee", 2.13, None),
)  # setting, method, goal, target beyond it


def main() -> None:
    """Print a line for each goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--setting", action="append")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name, method, goal, target in GOALS:
        if given.setting and name not in given.setting:
            continue
        setting = store.load(name)
        values = valuation_model(setting)
        begun = time.perf_counter()
        objective = objective_of(setting, method, given.seed)
        schedule = replace(schedule_of(setting, method), every=10**9)
        best = train(objective, values, schedule, seed=given.seed).best
        seconds = time.perf_counter() - begun
        mechanism = objective.mechanism(best, values.scale)
        result = evaluate(mechanism, values, samples=given.samples, seed=12345, searched=200, draws=5)
        near = result.revenue + 2 * result.revenue_se >= goal
        reached = "reached" if result.revenue >= goal else "within 2 s.e." if near else "short"
        above = "reached" if target is not None and result.revenue >= target else "not reached"
        beyond = "" if target is None else f", target {target}: {above}"
        earned = f"{result.revenue:.5f} +- {result.revenue_se:.5f} on {result.samples:,} draws"
        kept = f"loss {result.ir_violation:.1e}, gain of a misreport {result.regret_found:.1e}"
        print(
            f"{name}, {method}: {earned}, trained in {seconds:.1f} s; goal {goal}: {reached}{beyond}; {kept}",
            flush=True,
        )


if __name__ == "__main__":
    main()
