"""Aggregated auctions: revenue against the goals, profile by profile; time and memory by bidders; a GPU beside the CPU.

Every line is printed as JSON when it is measured. `--small` runs the same code in a minute.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import msgspec
import numpy as np
import torch

from credible import settings as store
from credible.records.values import valuation_model
from credible.runs import objective_of, schedule_of
from mechanisms.evaluation import evaluate
from mechanisms.export import quantise
from mechanisms.outcome import Mechanism
from mechanisms.participation import Independent, Profiles, WithParticipation
from mechanisms.training import AggregatedSizeBoosts, ProfileGenerator, Schedule, train
from mechanisms.training.loop import step_generator
from mechanisms.valuations import Uniform
from protocol.artifact.engine import Engine

GOALS = {
    "participation_2x2_uniform_s1": 0.5130,
    "participation_2x2_uniform_s2": 0.5800,
    "participation_2x2_uniform_s3": 0.7370,
    "participation_3x10_uniform_s1": 3.50,
    "participation_3x10_uniform_s2": 4.28,
    "participation_3x10_uniform_s3": 5.16,
    "participation_10x2_uniform_03": None,
}
BEST = {  # exactly truthful revenue by number of present bidders and items: reference results, section 1
    (1, 2): 0.549201, (2, 2): 0.874403, (1, 10): 3.477793, (2, 10): 5.000, (3, 10): 5.942,
}  # fmt: skip


def say(**line: object) -> None:
    """Print one line."""
    print(json.dumps(line), flush=True)


def learned(name: str, method: str, seed: int, device: torch.device, iterations: int | None) -> tuple[Mechanism, float]:
    """Return what a setting's recipe trains, and the seconds it took."""
    setting = store.load(name)
    values = valuation_model(setting)
    begun = time.perf_counter()
    objective = objective_of(setting, method, seed)
    schedule = replace(schedule_of(setting, method, iterations), every=10**9)
    best = train(objective, values, schedule, seed=seed, device=device).best
    return objective.mechanism(best, values.scale), time.perf_counter() - begun


def goals(names: list[str], samples: int, iterations: int | None) -> None:
    """Revenue of stage auctions and generated ones, over all rounds and by number of present bidders."""
    for name in names:
        setting = store.load(name)
        values = valuation_model(setting)
        everybody = valuation_model(msgspec.structs.replace(setting, participation={}))
        earned: dict[str, float] = {}
        for method in ("aggregated", "aggregated-generator"):
            mechanism, seconds = learned(name, method, 0, torch.device("cpu"), iterations)
            result = evaluate(mechanism, values, samples=samples, seed=12345, searched=200, draws=5)
            earned[method] = result.revenue
            goal = GOALS[name] if method == "aggregated" else None
            say(
                part="goals", setting=name, method=method, revenue=round(result.revenue, 5),
                revenue_se=round(result.revenue_se, 5), goal=goal,
                reached=None if goal is None else result.revenue >= goal,
                of_stage_auctions=round(result.revenue / earned["aggregated"], 5), seconds=round(seconds, 1),
                misreport_gain=result.regret_found, ir_loss=result.ir_loss,
            )  # fmt: skip
            for count in range(1, setting.bidders + 1):
                present = torch.arange(setting.bidders)[None] < count
                only = WithParticipation(everybody, Profiles(present, torch.ones(1, dtype=torch.float64)))
                part = evaluate(mechanism, only, samples=max(samples // 2, 2), seed=12345, searched=2, draws=0)
                best = BEST.get((count, setting.items))
                share = None if best is None else round(part.revenue / best, 5)
                say(
                    part="goals", setting=name, method=method, present=count, revenue=round(part.revenue, 5),
                    revenue_se=round(part.revenue_se, 5), best_known=best, of_best_known=share,
                )  # fmt: skip


def size(bidders: int, iterations: int) -> None:
    """Train, export and run one number of bidders; in a process of its own, whose peak memory it tells."""
    torch.set_num_threads(1)
    model = Independent(torch.full((bidders,), 0.3, dtype=torch.float64))
    values = WithParticipation(Uniform(bidders, 2), model)
    schedule = Schedule(iterations, 2048, 2048, 5, 600, 0.02, every=10**9)
    figures: dict[str, object] = {"part": "sizes", "bidders": bidders, "items": 2, "profiles": 2**bidders}
    kinds: dict[str, Callable[[], AggregatedSizeBoosts | ProfileGenerator]] = {
        "stage auctions, shared": lambda: AggregatedSizeBoosts(bidders, 2, [0.5]),
        "generated, one for each profile": lambda: ProfileGenerator(
            bidders, 2, step_generator(0, 4, 0), reserve=0.5, hidden=32, exchangeable=False
        ),
    }
    for kind, make in kinds.items():
        begun = time.perf_counter()
        objective = make()
        train(objective, values, schedule, seed=0)
        trained = time.perf_counter()
        auction = objective.mechanism()
        artifact = quantise(auction, unit=Fraction(1, 10**6), bid_max=10**6, share_bits=16, name="1e-6")
        exported = time.perf_counter()
        engine = Engine(artifact.data)
        drawn = values.sample(5000, step_generator(0, 5, 0))
        bids = np.rint(drawn.numpy() * 10**6).astype(np.int64)
        here = np.asarray((bids > 0).any(axis=2), dtype=np.int64)
        loaded = time.perf_counter()
        arrays = engine.run_arrays(bids, here)
        run = time.perf_counter() - loaded
        say(
            **figures, method=kind, rows=len(artifact.parameters["boosts"]), bytes=len(artifact.data),
            train_s=round(trained - begun, 2), export_s=round(exported - trained, 2), rounds_per_s=round(5000 / run),
            revenue=round(float(arrays["payment"].sum(axis=1).mean()) / 10**6 / 2**16, 4),
            peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        )  # fmt: skip


def on_gpu(names: list[str], samples: int, steps: dict[str, int] | None, also_cpu: bool, methods: list[str]) -> None:
    """Seconds per iteration and revenue on a GPU, beside the CPU's where asked."""
    for name in names:
        setting = store.load(name)
        values = valuation_model(setting)
        for method in (m for m in methods if m in setting.train):
            iterations = None if steps is None else steps[method]
            for place in ("cuda", "cpu") if also_cpu and not method.startswith("algnet") else ("cuda",):
                mechanism, seconds = learned(name, method, 0, torch.device(place), iterations)
                count = iterations or setting.train[method].iterations
                result = evaluate(mechanism, values, samples=samples, seed=12345, searched=200, draws=5)
                say(
                    part="gpu", setting=name, method=method, device=place, seconds=round(seconds, 1),
                    milliseconds_per_iteration=round(1000 * seconds / count, 2), revenue=round(result.revenue, 5),
                    revenue_se=round(result.revenue_se, 5), regret=round(result.regret, 5),
                )  # fmt: skip


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=["goals", "sizes", "gpu"])
    parser.add_argument("--setting", action="append", choices=list(GOALS))
    parser.add_argument("--method", action="append", help="of the part `gpu`")
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--cpu", action="store_true", help="the part `gpu` also trains on the CPU")
    parser.add_argument("--small", action="store_true", help="a hundredth of the work: that it runs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    parts = given.part or ["goals", "sizes"]
    names = given.setting or list(GOALS)
    samples = 2000 if given.small else given.samples
    if "goals" in parts:
        goals(names, samples, 5 if given.small else None)
    if "sizes" in parts:
        for bidders in (2, 3) if given.small else range(2, 11):
            child = multiprocessing.get_context("spawn").Process(target=size, args=(bidders, 5 if given.small else 300))
            child.start()
            child.join()
            if child.exitcode:
                raise SystemExit(f"{bidders} bidders: the process ended with {child.exitcode}")
    if "gpu" in parts:
        say(device=torch.cuda.get_device_name(), torch=torch.__version__)
        methods = given.method or ["aggregated", "aggregated-generator", "algnet"]
        on_gpu(names, samples, dict.fromkeys(methods, 5) if given.small else None, given.cpu, methods)


if __name__ == "__main__":
    main()
