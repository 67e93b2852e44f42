"""Searching a recipe: optuna proposes, a training on the setting's values disposes; what `credible tune` runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from credible.records.values import valuation_model
from credible.runs import objective_of, schedule_of
from credible.settings import Recipe, Setting
from protocol.errors import MalformedError

if TYPE_CHECKING:
    import optuna

TESTED: Final = 50_000  # profiles that a trial is judged by, the same for all


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found so far.

    Attributes:
        recipe: The best recipe.
        revenue: Its hard revenue on the search's own test profiles; the best of many, so a little too high.
        trials: Trials finished, pruned ones included.
        pruned: Of those, ended early.
        base: Revenue of the setting's own recipe, the first trial.
    """

    recipe: Recipe
    revenue: float
    trials: int
    pruned: int
    base: float


def search(
    setting: Setting,
    method: str,
    store: Path,
    *,
    trials: int,
    seed: int,
    iterations: int | None = None,
    finished: Callable[[int, float | None], None] = lambda number, revenue: None,
) -> Found:
    """Search learning rates, temperatures and the spread of the start around a setting's recipe; go on with a search.

    The first trial is the recipe itself. Trials that lag behind the median of the earlier ones end early.

    Args:
        setting: The setting.
        method: One that it has a recipe for.
        store: SQLite file that keeps every trial.
        trials: How many there shall be in all, those in the file included.
        seed: Decides every training, and the proposals of a search that is not interrupted.
        iterations: Steps of a trial, in place of the recipe's.
        finished: Called after every trial with its number and revenue, none if it ended early.

    Raises:
        MalformedError: If there is no recipe, or the file holds another search under this name.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if method not in setting.train:
        raise MalformedError(f"{setting.name} has no recipe for {method}, only for {', '.join(setting.train)}")
    base = setting.train[method]
    auction = msgspec.to_builtins(msgspec.structs.replace(setting, train={}))
    what = {"seed": seed, "iterations": iterations or base.iterations, "recipe": msgspec.to_builtins(base), **auction}
    what = msgspec.json.decode(msgspec.json.encode(what))  # as the file gives it back: tuples become lists
    if not store.parent.is_dir():
        raise MalformedError(f"{store}: there is no folder {store.parent}")
    study = optuna.create_study(
        study_name=f"{setting.name}/{method}",
        storage=f"sqlite:///{store}",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    )
    begun = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed * 1_000_003 + begun)  # a search that goes on proposes anew
    stored = study.user_attrs.get("what")
    if stored is None:
        study.set_user_attr("what", what)
    elif stored != what:
        changed = sorted(key for key in what if stored.get(key) != what[key])
        raise MalformedError(f"{store} holds a search with another {', '.join(changed)}; choose another file")

    def run(trial: optuna.Trial) -> float:
        recipe = _proposed(trial, method, base)
        return _measure(msgspec.structs.replace(setting, train={method: recipe}), method, seed, iterations, trial)

    def report(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        finished(trial.number, trial.value if trial.state is state.COMPLETE else None)

    state = optuna.trial.TrialState
    ended, own = (state.COMPLETE, state.PRUNED), _parameters(method, base)

    def own_recipe() -> list[optuna.trial.FrozenTrial]:
        return [trial for trial in study.get_trials(deepcopy=False, states=ended) if trial.params == own]

    done = len(study.get_trials(deepcopy=False, states=ended))
    if not own_recipe():
        study.enqueue_trial(own, skip_if_exists=False)  # an interrupted trial counts for nothing
    if trials > done:
        study.optimize(run, n_trials=trials - done, callbacks=[report])
    complete = study.get_trials(deepcopy=False, states=ended)
    if not own_recipe() or own_recipe()[0].state is not state.COMPLETE:
        raise MalformedError(f"{store}: the setting's own recipe did not train to its end, so there is nothing to beat")
    best = study.best_trial
    return Found(
        recipe=_recipe(best.params, base),
        revenue=float(best.value or 0.0),
        trials=len(complete),
        pruned=sum(trial.state is state.PRUNED for trial in complete),
        base=float(own_recipe()[0].value or 0.0),
    )


def _parameters(method: str, recipe: Recipe) -> dict[str, float]:
    """Return the searched numbers of a recipe by name: those that the method and the recipe use."""
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
    first, last = numbers["temperature_first"], numbers["temperature_last"]
    return msgspec.structs.replace(base, temperature=(first, max(first, last)), **plain)


def _measure(setting: Setting, method: str, seed: int, iterations: int | None, trial: optuna.Trial) -> float:
    """Train one trial; return its hard revenue, or raise optuna's TrialPruned."""
    from dataclasses import replace

    import optuna

    from mechanisms.outcome import revenue
    from mechanisms.training import train
    from mechanisms.training.loop import step_generator

    values = valuation_model(setting)
    schedule = schedule_of(setting, method, iterations)
    schedule = replace(schedule, every=max(1, schedule.iterations // 5))
    objective = objective_of(setting, method, seed)

    def watch(step: int, validation: float) -> None:
        trial.report(validation, step // schedule.every)
        if step < schedule.iterations and trial.should_prune():
            raise optuna.TrialPruned

    try:
        result = train(objective, values, schedule, seed=seed, progress=watch)
    except FloatingPointError as error:  # a rate too high is an answer, not a failure
        raise optuna.TrialPruned from error
    fresh = values.sample(TESTED, step_generator(seed, 10, 0))
    return float(revenue(objective.mechanism(result.best, values.scale).run(fresh)).mean())


def as_toml(method: str, recipe: Recipe, base: Recipe) -> str:
    """Return the part of a recipe that differs from the setting's, as TOML."""
    lines = [f"[train.{method}]"]
    for field in msgspec.structs.fields(Recipe):
        value = getattr(recipe, field.name)
        if value != getattr(base, field.name):
            shown = [float(f"{v:.4g}") for v in value] if isinstance(value, tuple) else float(f"{value:.4g}")
            lines.append(f"{field.name} = {shown}")
    return "\n".join(lines)
