"""What `train` writes and `export` and `evaluate` load: objectives by method, a run's hard mechanism."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from credible.records.values import valuation_model
from credible.settings import Recipe, Setting
from protocol.errors import MalformedError

if TYPE_CHECKING:
    from torch import Generator

    from mechanisms.affine.members import Member
    from mechanisms.networks.network import Network
    from mechanisms.outcome import Mechanism
    from mechanisms.training import FeeAMA, LotteryAMA, Objective, Schedule, SizeBoostAMA

MEMBERS: Final[dict[str, Member]] = {
    "deterministic-ama": "combinatorial",
    "mbarp": "mbarp",
    "vvca": "vvca",
}

REGRETNETS: Final = ("regretnet", "regretnet-local", "regretnet-kept")
NETWORKS: Final = (*REGRETNETS, "equivariantnet", "regretformer", "auction-mech")  # truthful only about so
UNIT_DEMAND: Final = (
    "lottery-ama", "lottery-ama-fee", "ca-ama", "deterministic-ama", "mbarp", "vvca", *REGRETNETS, "equivariantnet",
    "regretformer",
)  # fmt: skip


def objective_of(setting: Setting, method: str, seed: int, *, starts: int | None = None) -> Objective:
    """Return what a method trains on a setting.

    Args:
        setting: The setting.
        method: One that it has a recipe for.
        seed: Decides the random starts.
        starts: How many mechanisms side by side, in place of the recipe's.

    Raises:
        MalformedError: If the setting has no recipe for the method, or the recipe does not fit it.
    """
    from mechanisms.training import (
        AggregatedSizeBoosts,
        AlgNetTraining,
        ConditionalAuction,
        CorrelationAwareAMA,
        DeterministicAMA,
        LotteryAMA,
        MenuNetwork,
        MyersonNetTraining,
        ProfileGenerator,
        SizeBoostAMA,
    )
    from mechanisms.training.loop import step_generator

    if method not in setting.train:
        raise MalformedError(f"{setting.name} has no recipe for {method}, only for {', '.join(setting.train)}")
    recipe = setting.train[method]
    scale = valuation_model(setting).scale if method == "ca-ama" else 1.0  # its target is in units of value
    if setting.demand == "unit" and method not in UNIT_DEMAND:
        raise MalformedError(f"{setting.name}: {method} knows no unit demand, only {', '.join(UNIT_DEMAND)}")
    try:
        generator = step_generator(seed, 4, 0)
        if method == "menu-network":
            return MenuNetwork(
                setting.bidders, setting.items, recipe.entries, recipe.start, generator, hidden=recipe.hidden,
                layers=recipe.layers, weighted=recipe.weighted, varying=recipe.varying,
            )  # fmt: skip
        if method in ("lottery-ama", "lottery-ama-fee", "ca-ama"):
            menus = LotteryAMA(
                setting.bidders, setting.items, recipe.entries, recipe.start, generator, demand=setting.demand,
                starts=recipe.starts if starts is None else starts,
            )  # fmt: skip
            if method == "lottery-ama":
                return menus
            if method == "ca-ama":
                return CorrelationAwareAMA(
                    menus, generator, hidden=recipe.hidden, shared=recipe.shared, gamma=recipe.gamma,
                    target=recipe.target / scale, mutual=recipe.mutual,
                )  # fmt: skip
            return _with_fee(menus, generator, recipe)
        if method in ("algnet", "algnet-published"):
            return AlgNetTraining(
                setting.bidders, setting.items, generator, width=recipe.hidden, depth=recipe.layers,
                misreport_steps=recipe.misreport_steps, misreport_rate=recipe.misreport_rate,
                reach=recipe.reach, patience=recipe.patience, starts=recipe.starts if starts is None else starts,
            )  # fmt: skip
        if method in NETWORKS:
            return _network(setting, method, recipe, generator, recipe.starts if starts is None else starts)
        if method == "myerson-net":
            return MyersonNetTraining(
                setting.bidders, setting.items, generator, groups=recipe.layers, pieces=recipe.hidden,
                starts=recipe.starts if starts is None else starts,
            )  # fmt: skip
        if method == "item-can":
            return ConditionalAuction(
                setting.bidders, setting.items, generator, hidden=recipe.hidden, shared=recipe.shared
            )
        reserves = recipe.reserves if starts is None else recipe.reserves[:starts]
        if method in ("aggregated", "aggregated-generator") and not reserves:
            raise ValueError("no starting reserve was given")
        if method == "aggregated-generator":
            return ProfileGenerator(
                setting.bidders, setting.items, generator, reserve=reserves[0], hidden=recipe.hidden,
                exchangeable=recipe.shared,
            )  # fmt: skip
        if method == "aggregated":
            return AggregatedSizeBoosts(setting.bidders, setting.items, reserves, exchangeable=recipe.shared)
        if method in MEMBERS:
            return DeterministicAMA(
                setting.bidders, setting.items, MEMBERS[method], reserves, generator, demand=setting.demand
            )
        boosted = SizeBoostAMA(setting.bidders, setting.items, reserves, recipe.classes)
        if method == "size-boost":
            return boosted
        return _with_fee(boosted, generator, recipe)
    except ValueError as error:
        raise MalformedError(f"{setting.name}, recipe for {method}: {error}") from error


def _network(setting: Setting, method: str, recipe: Recipe, generator: Generator, starts: int) -> Objective:
    from mechanisms.classic import SecondPrice, best_reserves, vcg
    from mechanisms.networks import EquivariantNet, FractionNet, RegretFormer, RegretNet
    from mechanisms.networks.equivariant import attention_layers, equivariant_layers
    from mechanisms.networks.fraction_net import fraction_layers
    from mechanisms.networks.regret_net import regret_layers
    from mechanisms.training import NetworkTraining
    from mechanisms.training.loop import step_generator

    n, m = setting.bidders, setting.items
    kind: type[Network]
    if min(starts, recipe.hidden, recipe.layers) < 1:
        raise ValueError(f"{starts} networks, {recipe.layers} hidden layers of {recipe.hidden}, wanted at least 1 each")
    if method == "auction-mech":
        if m != 1:
            raise ValueError(f"the network is for one item, the setting has {m}")
        kind, layers = FractionNet, fraction_layers(starts, n, generator)
    elif method == "equivariantnet":
        kind, layers = (
            EquivariantNet,
            equivariant_layers(
                starts, width=recipe.hidden, depth=recipe.layers, demand=setting.demand, generator=generator
            ),
        )
    elif method == "regretformer":
        kind, layers = (
            RegretFormer,
            attention_layers(
                starts, width=recipe.hidden, depth=recipe.layers, demand=setting.demand, generator=generator
            ),
        )
    else:
        kind, layers = (
            RegretNet,
            regret_layers(
                starts, n, m, width=recipe.hidden, depth=recipe.layers, demand=setting.demand, generator=generator
            ),
        )
    target: Mechanism | None = None
    if recipe.imitate and setting.demand == "unit":
        target = vcg(n, m, "unit")
    elif recipe.imitate:
        target = SecondPrice(n, best_reserves(valuation_model(setting).sample(20_000, step_generator(0, 5, 0))))
    return NetworkTraining(
        kind, layers, n, m, generator, misreports=recipe.misreports, misreport_steps=recipe.misreport_steps,
        misreport_rate=recipe.misreport_rate, penalty=recipe.penalty, budget=recipe.budget,
        multiplier=recipe.multiplier, dual_rate=recipe.dual_rate, curvature=recipe.curvature,
        monotone=recipe.monotone, target=target, imitate=recipe.imitate,
    )  # fmt: skip


def _with_fee(base: LotteryAMA | SizeBoostAMA, generator: Generator, recipe: Recipe) -> FeeAMA:
    from mechanisms.training import FeeAMA

    return FeeAMA(
        base, generator, hidden=recipe.hidden, shared=recipe.shared, price=recipe.price, fitted=recipe.fitted,
        hardness=recipe.hardness,
    )  # fmt: skip


def schedule_of(setting: Setting, method: str, iterations: int | None = None) -> Schedule:
    """Return the schedule of a setting's recipe for a method, with other iterations if given."""
    from mechanisms.training import Schedule

    recipe = setting.train[method]
    return Schedule(
        iterations=iterations or recipe.iterations,
        batch_start=recipe.batch[0],
        batch_end=recipe.batch[1],
        temperature_start=recipe.temperature[0],
        temperature_end=recipe.temperature[1],
        learning_rate=recipe.learning_rate,
        boost_rate=recipe.boost_rate,
        fee_rate=recipe.fee_rate,
    )


def classics(setting: Setting, seed: int) -> dict[str, Mechanism]:
    """Return truthful auctions with a formula: VCG, the best reserve of each item, all items as one lot.

    Args:
        setting: Its values decide the reserves.
        seed: Of the draws that they are read from.
    """
    from mechanisms.affine.members import grand_bundle
    from mechanisms.classic import SecondPrice, best_reserves, vcg
    from mechanisms.training.loop import step_generator

    found: dict[str, Mechanism] = {"vcg": vcg(setting.bidders, setting.items, setting.demand)}
    if setting.demand == "additive":
        drawn = valuation_model(setting).sample(20_000, step_generator(seed, 5, 0))
        found["item_wise_myerson"] = SecondPrice(setting.bidders, best_reserves(drawn))
        if setting.items > 1:
            lot = float(best_reserves(drawn.sum(2, keepdim=True))[0])
            found["grand_bundle"] = grand_bundle(setting.bidders, setting.items, lot)
    return found


def load_run(
    folder: Path,
) -> tuple[Setting, Mechanism, dict[str, Any]]:
    """Return a run's setting, hard mechanism and configuration.

    Raises:
        MalformedError: If the folder is no finished or running run.
    """
    from mechanisms.training.run import RunError, read_config, read_weights

    try:
        config = read_config(folder)
        setting = msgspec.convert(config["setting"], Setting, strict=False)
        weights = read_weights(folder)
        objective = objective_of(setting, config["method"], 0, starts=1)
        for name, tensor in objective.parameters().items():
            if weights[name].shape != tensor.shape:
                raise MalformedError(f"{folder}: {name} has shape {tuple(weights[name].shape)}")
            tensor.copy_(weights[name])
        return setting, objective.mechanism(0, float(config["scale"])), config
    except (RunError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise MalformedError(f"{folder}: no usable run: {error}") from error
