"""Searching a recipe: optuna proposes, a training on the setting's values disposes; what `credible tune` runs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from credible.records.values import valuation_model
from credible.runs import NETWORKS, objective_of, schedule_of
from credible.settings import RECORD, Recipe, Setting
from protocol.errors import MalformedError

if TYPE_CHECKING:
    import optuna

    from mechanisms.training import NetworkTraining

REGRET_WEIGHT: Final = 5.0  # of the summed regret against revenue, as auction-mech weighs it
AUDITED: Final = 100  # profiles of a trial that the auditor searches
WARM_START: Final = 1  # version of how networks imitate: a file of another one is not read
TESTED: Final = 50_000  # profiles that a trial is judged by, the same for all


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found so far.

    Attributes:
        recipe: The best recipe.
        revenue: Its hard revenue on the search's own test profiles, less `REGRET_WEIGHT` times the regret that the
            auditor finds where the method is no truthful one; the best of many, so a little too high.
        trials: Trials finished, pruned ones included.
        pruned: Of those, ended early.
        base: The same of the setting's own recipe, the first trial.
        files: What the trials were written to besides the study: CSV and JSON.
    """

    recipe: Recipe
    revenue: float
    trials: int
    pruned: int
    base: float
    files: tuple[Path, Path]


def search(
    setting: Setting,
    method: str,
    store: Path,
    *,
    trials: int,
    seed: int,
    iterations: int | None = None,
    jobs: int = 1,
    finished: Callable[[int, float | None], None] = lambda number, revenue: None,
) -> Found:
    """Search learning rates, temperatures and the spread of the start around a setting's recipe; go on with a search.

    Of networks that are truthful only about so, what is searched are rates and the weights of the penalties; what they
    imitate before training is learned once and kept beside the study. The first trial is the recipe itself. Trials
    that lag behind the median of the earlier ones end early, networks do not: revenue alone does not tell.

    Args:
        setting: The setting.
        method: One that it has a recipe for.
        store: SQLite file that keeps every trial.
        trials: How many there shall be in all, those in the file included.
        seed: Decides every training, and the proposals of a search that is not interrupted.
        iterations: Steps of a trial, in place of the recipe's.
        jobs: Processes that train trials side by side.
        finished: Called after every trial with its number and revenue, none if it ended early.

    Raises:
        MalformedError: If there is no recipe, or the file holds another search under this name.
    """
    import optuna
    import sqlalchemy
    import torch

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # an interrupted trial is no traceback
    torch.set_num_threads(1)
    if method not in setting.train:
        raise MalformedError(f"{setting.name} has no recipe for {method}, only for {', '.join(setting.train)}")
    base = setting.train[method]
    auction = msgspec.to_builtins(msgspec.structs.replace(setting, train={}))
    what = {"seed": seed, "iterations": iterations or base.iterations, "recipe": msgspec.to_builtins(base), **auction}
    what = msgspec.json.decode(msgspec.json.encode(what))  # as the file gives it back: tuples become lists
    if not store.parent.is_dir():
        raise MalformedError(f"{store}: there is no folder {store.parent}")
    try:
        study = _study(setting, method, store)
    except sqlalchemy.exc.DatabaseError as error:
        raise MalformedError(f"{store}: not a study: {error.orig}") from error
    stored = study.user_attrs.get("what")
    if stored is None:
        study.set_user_attr("what", what)
    elif stored != what:
        changed = sorted(key for key in what if stored.get(key) != what[key])
        raise MalformedError(f"{store} holds a search with another {', '.join(changed)}; choose another file")

    state = optuna.trial.TrialState
    ended, own = (state.COMPLETE, state.PRUNED), _parameters(method, base)

    def own_recipe() -> list[optuna.trial.FrozenTrial]:
        return [trial for trial in study.get_trials(deepcopy=False, states=ended) if trial.params == own]

    done = len(study.get_trials(deepcopy=False, states=ended))
    if not own_recipe():
        study.enqueue_trial(own, skip_if_exists=False)  # an interrupted trial counts for nothing
    task = _Task(setting, method, store, trials, seed, iterations)
    if jobs > 1 and trials - done > 1:
        task.run(finished, most=1)  # the recipe itself first, and what all others imitate
        left = trials - done - 1
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            parts = [
                pool.submit(task.run, worker=worker + 1, most=left // jobs + (worker < left % jobs))
                for worker in range(min(jobs, left))
            ]
            told = {trial.number for trial in study.get_trials(deepcopy=False, states=ended)}
            running = set(parts)
            while running:
                over, running = wait(running, timeout=1.0)
                for trial in study.get_trials(deepcopy=False, states=ended):
                    if trial.number not in told:
                        told.add(trial.number)
                        finished(trial.number, trial.value if trial.state is state.COMPLETE else None)
                for part in over:
                    part.result()
    elif trials > done:
        task.run(finished)
    complete = study.get_trials(deepcopy=False, states=ended)
    if not own_recipe() or own_recipe()[0].state is not state.COMPLETE:
        raise MalformedError(f"{store}: the setting's own recipe did not train to its end, so there is nothing to beat")
    best = study.best_trial
    files = _written(study, store.with_name(f"{store.stem}-{setting.name}-{method}"))
    return Found(
        recipe=_recipe(best.params, base),
        revenue=float(best.value or 0.0),
        trials=len(complete),
        pruned=sum(trial.state is state.PRUNED for trial in complete),
        base=float(own_recipe()[0].value or 0.0),
        files=files,
    )


def _study(setting: Setting, method: str, store: Path) -> optuna.Study:
    import optuna

    return optuna.create_study(
        study_name=f"{setting.name}/{method}",
        storage=f"sqlite:///{store}",
        direction="maximize",
        load_if_exists=True,
    )


@dataclass(frozen=True, slots=True)
class _Task:
    """A search that any process can take part in."""

    setting: Setting
    method: str
    store: Path
    trials: int
    seed: int
    iterations: int | None

    def run(
        self,
        finished: Callable[[int, float | None], None] = lambda number, revenue: None,
        *,
        worker: int = 0,
        most: int | None = None,
    ) -> None:
        """Train trials until there are enough of them, or the most that were asked for here."""
        import optuna
        import torch

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # an interrupted trial is no traceback
        torch.set_num_threads(1)
        state = optuna.trial.TrialState
        storage = optuna.storages.RDBStorage(f"sqlite:///{self.store}", engine_kwargs={"connect_args": {"timeout": 60}})
        study = optuna.load_study(study_name=f"{self.setting.name}/{self.method}", storage=storage)
        begun = len(study.get_trials(deepcopy=False))
        # a search that goes on proposes anew, and so does every process
        study.sampler = optuna.samplers.TPESampler(seed=self.seed * 1_000_003 + begun + 7919 * worker)
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
        base = self.setting.train[self.method]

        def one(trial: optuna.Trial) -> float:
            recipe = _proposed(trial, self.method, base)
            chosen = msgspec.structs.replace(self.setting, train={self.method: recipe})
            return _measure(chosen, self.method, self.seed, self.iterations, trial, self.store)

        def report(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            finished(trial.number, trial.value if trial.state is state.COMPLETE else None)

        done = len(study.get_trials(deepcopy=False, states=(state.COMPLETE, state.PRUNED)))
        left = self.trials - done if most is None else most
        if left > 0:
            study.optimize(one, n_trials=left, callbacks=[report])


def _written(study: optuna.Study, stem: Path) -> tuple[Path, Path]:
    """Write every trial to a CSV and a JSON file."""
    rows = [
        {
            "number": trial.number, "state": trial.state.name, "value": trial.value,
            "seconds": round(trial.duration.total_seconds(), 2) if trial.duration else None,
            **trial.user_attrs, **trial.params,
        }
        for trial in study.get_trials(deepcopy=False)
    ]  # fmt: skip
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    as_csv, as_json = (stem.with_name(f"{stem.name}.{kind}") for kind in ("csv", "json"))
    as_csv.write_text(text.getvalue(), encoding="utf-8")
    as_json.write_text(json.dumps({"study": study.study_name, "trials": rows}, indent=2) + "\n", encoding="utf-8")
    return as_csv, as_json


def _parameters(method: str, recipe: Recipe) -> dict[str, float]:
    """Return the searched numbers of a recipe by name: those that the method and the recipe use."""
    if method in NETWORKS:
        weighed = {"multiplier": recipe.multiplier} if recipe.penalty == "fixed" else {"dual_rate": recipe.dual_rate}
        searched = {"learning_rate": recipe.learning_rate, "monotone": recipe.monotone, **weighed}
        return {name: value for name, value in searched.items() if value > 0}
    values = {
        "learning_rate": recipe.learning_rate,
        "boost_rate": recipe.boost_rate,
        "start": recipe.start,
        "price": recipe.price if method.endswith("-fee") else 0.0,
        "temperature_first": recipe.temperature[0],
        "temperature_last": recipe.temperature[1],
    }
    return {name: value for name, value in values.items() if value > 0}


def _proposed(trial: optuna.Trial, method: str, base: Recipe) -> Recipe:
    """Return a recipe whose numbers lie within a factor of 4 of the base's, on a logarithmic scale."""
    around = {
        name: trial.suggest_float(name, value / 4, value * 4, log=True)
        for name, value in _parameters(method, base).items()
    }
    return _recipe(around, base)


def _recipe(numbers: dict[str, float], base: Recipe) -> Recipe:
    plain: dict[str, Any] = {name: value for name, value in numbers.items() if not name.startswith("temperature")}
    if len(plain) == len(numbers):
        return msgspec.structs.replace(base, **plain)
    first, last = numbers["temperature_first"], numbers["temperature_last"]
    return msgspec.structs.replace(base, temperature=(first, max(first, last)), **plain)


def _measure(
    setting: Setting, method: str, seed: int, iterations: int | None, trial: optuna.Trial, store: Path
) -> float:
    """Train one trial; return its hard revenue less the weighed regret, or raise optuna's TrialPruned."""
    from dataclasses import replace

    import optuna

    from mechanisms.evaluation import audit_values
    from mechanisms.outcome import revenue
    from mechanisms.training import NetworkTraining, train
    from mechanisms.training.loop import step_generator

    values = valuation_model(setting)
    schedule = schedule_of(setting, method, iterations)
    schedule = replace(schedule, every=max(1, schedule.iterations // 5))
    objective = objective_of(setting, method, seed)

    if isinstance(objective, NetworkTraining) and setting.train[method].imitate:
        warm_start(objective, setting, method, seed, store)

    def watch(step: int, validation: float) -> None:
        if method in NETWORKS:
            return
        trial.report(validation, step // schedule.every)
        if step < schedule.iterations and trial.should_prune():
            raise optuna.TrialPruned

    try:
        result = train(objective, values, schedule, seed=seed, progress=watch)
    except FloatingPointError as error:  # a rate too high is an answer, not a failure
        raise optuna.TrialPruned from error
    fresh = values.sample(TESTED, step_generator(seed, 10, 0))
    mechanism = objective.mechanism(result.best, values.scale)
    earned = float(revenue(mechanism.run(fresh)).mean())
    if mechanism.truthful:
        return earned
    regret = sum(audit_values(mechanism, values, profiles=AUDITED, seed=seed).mean)
    trial.set_user_attr("revenue", earned)
    trial.set_user_attr("regret", regret)
    return earned - REGRET_WEIGHT * regret


def warm_start(objective: NetworkTraining, setting: Setting, method: str, seed: int, store: Path) -> None:
    """Let a network imitate its target, or take what it learned from the file that an earlier trial left.

    The file's name has the hash of what decides the weights, and of nothing that a search changes. Values of a record
    are in files of their own, so there every trial imitates anew.
    """
    from safetensors.torch import load_file, save_file

    from mechanisms.training.network import IMITATED

    recipe = setting.train[method]
    auction = msgspec.to_builtins(msgspec.structs.replace(setting, train={}))
    if setting.values["kind"] == RECORD:
        return
    shapes = {name: list(tensor.shape) for name, tensor in objective.layers.items()}
    what = [WARM_START, auction, method, seed, shapes, recipe.imitate, IMITATED]
    digest = hashlib.sha256(msgspec.json.encode(what)).hexdigest()[:16]
    kept = store.with_name(f"{store.stem}-warm-start-{digest}.safetensors")
    if kept.exists():
        stored = load_file(kept)
        for name, tensor in objective.layers.items():
            tensor.copy_(stored[name])
        objective.imitated = True
        return
    objective.source(valuation_model(setting), seed)
    partial = kept.with_name(f".{kept.name}.{os.getpid()}")
    save_file({name: tensor.contiguous() for name, tensor in objective.layers.items()}, partial)
    os.replace(partial, kept)  # whole or not at all, also where two processes meet


def as_toml(method: str, recipe: Recipe, base: Recipe) -> str:
    """Return the part of a recipe that differs from the setting's, as TOML."""
    lines = [f"[train.{method}]"]
    for field in msgspec.structs.fields(Recipe):
        value = getattr(recipe, field.name)
        if value != getattr(base, field.name):
            shown = [float(f"{v:.4g}") for v in value] if isinstance(value, tuple) else float(f"{value:.4g}")
            lines.append(f"{field.name} = {shown}")
    return "\n".join(lines)
