"""RegretNet with local and kept against global misreports, and the auditor against brute force (NET-7, EVAL-4).

    python -m benchmarks.regret [--iterations 200] [--profiles 200] [--starts 100] [--steps 300] [--run RUN]

Prints one JSON object a line: milliseconds an iteration of the trainings on 2x2, in turns, and ratios; then what the
auditor and many random starts find on a 2x2 network (trained here for a few seconds, or a run's), and in what time. The
papers' search is 1,000 starts x 2,000 steps: its time is that of the measured one times the steps.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechanisms.evaluation import audit_regret
from mechanisms.evaluation.auditor import Search
from mechanisms.networks.regret_net import RegretNet, regret_layers
from mechanisms.outcome import Mechanism
from mechanisms.training import NetworkTraining, Schedule, train
from mechanisms.training.loop import step_generator
from mechanisms.valuations import Uniform

LITERAL = 1000 * 2000  # starts x steps of the papers' search
KINDS: dict[str, dict[str, Any]] = {
    "regretnet": {"misreports": "random", "misreport_steps": 25, "misreport_rate": 0.1},
    "regretnet-local": {"misreports": "truth", "misreport_steps": 1, "misreport_rate": 0.05},
    "regretnet-kept": {"misreports": "kept", "misreport_steps": 1, "misreport_rate": 0.05},
}  # fmt: skip


def network(kind: str) -> NetworkTraining:
    """Return a 2x2 training as the paper sizes it."""
    generator = step_generator(0, 4, 0)
    layers = regret_layers(1, 2, 2, width=100, depth=2, demand="additive", generator=generator)
    return NetworkTraining(RegretNet, layers, 2, 2, generator, **KINDS[kind])


def speed(iterations: int) -> None:
    """Time all trainings in turns."""
    values, taken = Uniform(2, 2), dict.fromkeys(KINDS, 0.0)
    trained = {kind: network(kind) for kind in KINDS}
    for _ in range(4):
        for kind, objective in trained.items():
            started = time.perf_counter()
            train(objective, values, Schedule(iterations // 4, 128, 128, 1, 1, 1e-3, every=10**6), seed=0)
            taken[kind] += time.perf_counter() - started
    ms = {kind: round(1000 * seconds / (iterations // 4 * 4), 3) for kind, seconds in taken.items()}
    ratios = {kind: round(taken["regretnet"] / taken[kind], 2) for kind in KINDS if kind != "regretnet"}
    print(json.dumps({"part": "training", "ms_an_iteration": ms, "global_over": ratios}), flush=True)


def brute(mechanism: Mechanism, values: Tensor, starts: int, steps: int) -> tuple[Tensor, float]:
    """Return what many random starts find, by profile and bidder, and the seconds; they climb by Adam at 0.1."""
    started, source = time.perf_counter(), torch.Generator().manual_seed(1)
    low, high = torch.zeros(values.shape[2]), torch.ones(values.shape[2])
    best = []
    for bidder in range(values.shape[1]):
        search = Search(mechanism, values, bidder, low, high)
        search.ascend(torch.rand((len(values), starts, values.shape[2]), generator=source), steps, 0.1)
        best.append(search.best)
    return torch.stack(best, dim=1), time.perf_counter() - started


def auditing(mechanism: Mechanism, profiles: int, starts: int, steps: int) -> None:
    """Compare the auditor with brute force on the same profiles."""
    values = Uniform(2, 2).sample(profiles, step_generator(5, 0, 0)).float()
    started = time.perf_counter()
    audit = audit_regret(mechanism, values, low=torch.zeros(2, 2), high=torch.ones(2, 2))
    seconds = time.perf_counter() - started
    found, slow = brute(mechanism, values, starts, steps)
    literal = slow * LITERAL / (starts * steps)
    print(json.dumps({
        "part": "auditor", "profiles": profiles, "auditor_mean": audit.regret, "auditor_largest": max(audit.largest),
        "auditor_p99": max(row[-1] for row in audit.quantiles), "auditor_s": round(seconds, 2),
        "brute": f"{starts} starts x {steps} steps", "brute_mean": float(found.mean(0).max()),
        "brute_largest": float(found.max()), "brute_p99": float(torch.quantile(found, 0.99, dim=0).max()),
        "brute_s": round(slow, 1), "brute_over_auditor": round(slow / seconds, 1),
        "literal_search_s": round(literal), "literal_over_auditor": round(literal / seconds),
    }))  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--profiles", type=int, default=200)
    parser.add_argument("--starts", type=int, default=100)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    speed(options.iterations)
    if options.run is not None:
        from credible.runs import load_run

        mechanism = load_run(options.run)[1]
    else:
        objective = network("regretnet-kept")
        train(objective, Uniform(2, 2), Schedule(2000, 128, 128, 1, 1, 1e-3, every=10**6), seed=0)
        mechanism = objective.mechanism()
    auditing(mechanism, options.profiles, options.starts, options.steps)


if __name__ == "__main__":
    main()
