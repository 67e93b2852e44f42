"""Rounding a float affine maximizer to the artifact's grid (AMA-3).

Rounding parameters costs revenue only: any integer menu, boosts and weights are an exact affine maximizer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from protocol.artifact.build import aggregated, menu_affine, network, size_boost
from protocol.artifact.classes.fee import MAX_SHIFT
from protocol.artifact.classes.network import ACTIVATION_BITS, EXP_TOP, STEP_BITS, TOWERS, UNIT_TOWERS
from protocol.artifact.classes.size_boost import size_vectors
from protocol.artifact.static import CheckedArtifact

from mechanisms.affine import AffineMaximizer, FeeNetwork, SizeBoosted, WithFee
from mechanisms.aggregated import Aggregated
from mechanisms.networks import EquivariantNet, FractionNet, RegretNet
from mechanisms.outcome import Mechanism
from mechanisms.participation import all_profiles

WEIGHT_MAX: Final = 1 << 10
ACTIVATION: Final = float(1 << 16)  # inner activations of a fee count 2^-16
RAMP: Final = 1 << ACTIVATION_BITS  # steps of a ramp that stands for ReLU: it rises from 0 to 1 by 2^-14 each
LEAST_USED: Final = 2.0**-8  # part of a ReLU neuron's reach that its ramp covers at least
TANH_REACH: Final = 6  # beyond it tanh is 1 to 2^-14
EXP_REACH: Final = 17  # beyond it exp is below 2^-24
LOGISTIC_REACH: Final = 12  # beyond it the logistic function is 1 to 2^-16
LARGEST: Final = float(1 << 51)  # of a fee's sums, with room for rounding below 2^53


def quantise(mechanism: Mechanism, *, unit: Fraction, bid_max: int, share_bits: int, name: str) -> CheckedArtifact:
    """Return the artifact of an affine maximizer, an aggregated auction of size-boosted ones, or a network.

    Args:
        mechanism: The float mechanism, values in units of value.
        unit: Value of one grid unit.
        bid_max: Largest bid, grid units.
        share_bits: q: shares count 2^-q.
        name: What people call one grid unit.

    Raises:
        ArtifactRefusedError: If the integers would leave the exact range.
        ValueError: If the mechanism has no exact form: a fee without opting out, other stage auctions,
            networks but for RegretNet, EquivariantNet and the fraction network.
    """
    if isinstance(mechanism, EquivariantNet):
        mechanism = mechanism.dense()
    if isinstance(mechanism, RegretNet | FractionNet):
        return _network(mechanism, unit=unit, bid_max=bid_max, share_bits=share_bits, name=name)
    if isinstance(mechanism, Aggregated):
        return _aggregated(mechanism, unit=unit, bid_max=bid_max, share_bits=share_bits, name=name)
    if not isinstance(mechanism, AffineMaximizer | SizeBoosted | WithFee):
        raise ValueError(f"{type(mechanism).__name__} has no exact form yet")
    fee: dict[str, npt.NDArray[np.int64]] | None = None
    if isinstance(mechanism, WithFee):
        if not mechanism.opt_out:
            raise ValueError("a fee without opting out is not individually rational, so it has no artifact")
        fee = quantise_fee(mechanism.network, unit=unit, bid_max=bid_max, share_bits=share_bits)
        mechanism = mechanism.base
    whole = 1 << share_bits
    weights, boosts = _integers(mechanism, unit, share_bits)
    if isinstance(mechanism, SizeBoosted):
        return size_boost(
            boosts, weights, items=mechanism.items, bid_max=bid_max, share_bits=share_bits, unit=name, fee=fee
        )
    menu = np.rint(mechanism.menu.numpy() * whole).astype(np.int64)
    for entry, item in np.argwhere(menu.sum(axis=1) > whole):  # nearest shares may give out too much: take it back
        while menu[entry, :, item].sum() > whole:
            menu[entry, int(menu[entry, :, item].argmax()), item] -= 1  # one unit at a time, from the largest
    menu, boosts = _without_repeats(menu, boosts)
    return menu_affine(menu, boosts, weights, bid_max=bid_max, share_bits=share_bits, unit=name, fee=fee)


def _network(
    mechanism: RegretNet | FractionNet, *, unit: Fraction, bid_max: int, share_bits: int, name: str
) -> CheckedArtifact:
    """Return a network in fixed point (NET-8): feasible and individually rational whatever rounding did to it."""
    layers = {key: tensor[0].double().numpy() for key, tensor in mechanism.layers.items()}
    activation = _tanh()
    if isinstance(mechanism, FractionNet):
        layers = _ramped(layers, float(unit) * bid_max / mechanism.scale)
        activation = np.arange(-RAMP, RAMP).clip(0)
    towers = UNIT_TOWERS if "want_0" in layers else TOWERS
    depth = sum(key.startswith("allot_") and not key.endswith("bias") for key in layers) - 1
    if depth < 2:
        raise ValueError(f"a network of {depth} hidden layer has no exact form, wanted at least 2")
    to_input = float(unit) / mechanism.scale
    reach = max(
        float((np.abs(layers[f"{tower}_0"]).sum(axis=0) * to_input * bid_max + np.abs(layers[f"{tower}_0_bias"])).max())
        for tower in towers
    )
    shift = min(40, max(1, math.floor(math.log2(LARGEST / max(reach, 1.0))) - STEP_BITS))
    first, rest = 2.0 ** (STEP_BITS + shift), 2.0**ACTIVATION_BITS
    parameters: dict[str, npt.NDArray[np.int64]] = {"shift": np.array([shift])}
    for tower in towers:
        hidden = range(1, depth)
        parts = {
            "first": layers[f"{tower}_0"] * to_input * first,
            "first_bias": layers[f"{tower}_0_bias"][0] * first,
            "hidden": np.stack([layers[f"{tower}_{layer}"] for layer in hidden]) * rest,
            "hidden_bias": np.stack([layers[f"{tower}_{layer}_bias"][0] for layer in hidden]) * rest * rest,
            "last": layers[f"{tower}_{depth}"] * rest,
            "last_bias": layers[f"{tower}_{depth}_bias"][0] * rest * rest,
        }
        parameters |= {f"{tower}_{key}": np.rint(part).astype(np.int64) for key, part in parts.items()}
    parameters |= {"activation": activation, **_tables(share_bits)}
    return network(
        bidders=mechanism.bidders,
        items=mechanism.items,
        bid_max=bid_max,
        share_bits=share_bits,
        unit=name,
        **parameters,
    )


def _ramped(layers: Mapping[str, npt.NDArray[Any]], highest: float) -> dict[str, npt.NDArray[Any]]:
    """Return the towers `allot` and `pay` of a ReLU network whose layers are stretched so that a ramp does for ReLU.

    ReLU is linear above zero: what multiplies a neuron divides the next weights. Each neuron's sum is made to end at
    the ramp's end, with room of a quarter above the largest that comes up in bids up to the highest; of a
    neuron that hardly ever wakes the ramp covers LEAST_USED of what its weights allow. Narrower layers are filled up
    with zeros.

    Args:
        layers: Of the perceptrons `trunk`, `allot` and `part`, one network.
        highest: Largest bid over the network's scale.
    """
    depth = sum(key.startswith("trunk_") and not key.endswith("bias") for key in layers)
    inputs, width = layers["trunk_0"].shape
    signal = np.random.default_rng(0).uniform(0, highest, (1 << 14, inputs))
    signal[: 1 << 13] = np.where(signal[: 1 << 13] < highest / 2, 0, highest)  # half of them are corners
    end, half_step = RAMP / (1 << STEP_BITS), 0.5 / (1 << STEP_BITS)
    before = np.ones(inputs)
    trunk: dict[str, npt.NDArray[Any]] = {}
    for layer in range(depth):
        weights, bias = layers[f"trunk_{layer}"], layers[f"trunk_{layer}_bias"]
        reach = signal.max(axis=0) @ np.abs(weights) + np.abs(bias[0])
        signal = np.maximum(signal @ weights + bias, 0)
        top = np.maximum(1.25 * signal.max(axis=0), LEAST_USED * reach)
        top[top == 0] = 1.0
        rows, columns = (inputs if layer == 0 else width) - len(weights), width - weights.shape[1]
        trunk[str(layer)] = np.pad(weights * before[:, None] * (end / top), ((0, rows), (0, columns)))
        trunk[f"{layer}_bias"] = np.pad(bias * (end / top) + half_step, ((0, 0), (0, columns)))  # floors become nearest
        before = top
    towers = {f"{tower}_{key}": part for tower in TOWERS for key, part in trunk.items()}
    for tower, head in zip(TOWERS, ("allot", "part"), strict=True):
        weights = layers[f"{head}_0"] * before[:, None]
        towers[f"{tower}_{depth}"] = np.pad(weights, ((0, width - len(weights)), (0, 0)))
        towers[f"{tower}_{depth}_bias"] = layers[f"{head}_0_bias"]
    return towers


def _middle(reach: int, *, both: bool) -> npt.NDArray[np.float64]:
    """Return the middle of each step of 2^-10 up to the reach, and below zero as far."""
    steps = np.arange(-(reach << STEP_BITS) if both else 0, reach << STEP_BITS)
    return (steps + 0.5) / (1 << STEP_BITS)


def _tanh() -> npt.NDArray[np.int64]:
    table: npt.NDArray[np.int64] = np.rint(np.tanh(_middle(TANH_REACH, both=True)) * (1 << ACTIVATION_BITS))
    return table.astype(np.int64)


def _tables(share_bits: int) -> dict[str, npt.NDArray[np.int64]]:
    """Return what exp and the logistic function are, at the middle of each step."""
    return {
        "exp": np.maximum(np.rint(np.exp(-_middle(EXP_REACH, both=False)) * EXP_TOP), 1).astype(np.int64),
        "logistic": np.rint((1 << share_bits) / (1 + np.exp(-_middle(LOGISTIC_REACH, both=True)))).astype(np.int64),
    }


def _integers(
    mechanism: AffineMaximizer | SizeBoosted, unit: Fraction, share_bits: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return weights, and boosts in fine units times the weight unit."""
    raw = mechanism.weights.numpy()
    equal = bool((raw == raw[0]).all())
    factor = 1.0 / float(raw[0]) if equal else WEIGHT_MAX / float(raw.max())
    weights = np.maximum(np.rint(raw * factor), 1).astype(np.int64)
    fine = factor * (1 << share_bits) / float(unit)
    return weights, np.rint(mechanism.boosts.numpy() * fine).astype(np.int64)


def _aggregated(mechanism: Aggregated, *, unit: Fraction, bid_max: int, share_bits: int, name: str) -> CheckedArtifact:
    """Return the artifact: a row for each stage auction that treats bidders alike, else for each profile."""
    n, items = mechanism.bidders, mechanism.items
    vectors = size_vectors(n, items)
    stages = [_stage(stage, unit, share_bits) for stage in mechanism.stages]
    number: dict[tuple[int, int], int] = {}  # by stage, and profile where the seats matter
    boost_rows: list[list[int]] = []
    weight_rows: list[npt.NDArray[np.int64]] = []
    stage_of = np.zeros(1 << n, dtype=np.int64)
    for profile, here in enumerate(all_profiles(n).numpy()):
        if not profile:
            continue
        index, seats = int(mechanism.stage_of[profile]), int(here.sum())
        own, weights, alike = stages[index]
        key = (index, 0 if alike else profile)
        if key not in number:
            number[key] = len(boost_rows)
            least = min(own.values())  # for what can never be served: any would do, this keeps the range small
            row = []
            for sizes in vectors:
                taken = np.sort(sizes)[::-1] if alike else np.concatenate([sizes[here], sizes[~here]])
                row.append(least if taken[seats:].any() else own[tuple(taken[:seats].tolist())])
            boost_rows.append(row)
            weight_rows.append(np.ones(n, dtype=np.int64))
            if not alike:
                weight_rows[-1][here] = weights
        stage_of[profile] = number[key]
    return aggregated(
        stage_of, np.array(boost_rows), np.stack(weight_rows), items=items, bid_max=bid_max, share_bits=share_bits,
        unit=name,
    )  # fmt: skip


def _stage(
    stage: Mechanism, unit: Fraction, share_bits: int
) -> tuple[dict[tuple[int, ...], int], npt.NDArray[np.int64], bool]:
    """Return boosts by bundle sizes, weights, and whether the auction treats bidders alike."""
    if not isinstance(stage, SizeBoosted):
        raise ValueError(f"a stage auction is {type(stage).__name__}, only size-boosted ones have an exact form")
    weights, boosts = _integers(stage, unit, share_bits)
    vectors = size_vectors(stage.bidders, stage.items).tolist()
    own = {tuple(sizes): int(boost) for sizes, boost in zip(vectors, boosts, strict=True)}
    alike = all(own[tuple(sorted(sizes, reverse=True))] == boost for sizes, boost in own.items())
    return own, weights, alike and bool((weights == weights[0]).all())


def quantise_fee(
    network: FeeNetwork, *, unit: Fraction, bid_max: int, share_bits: int
) -> dict[str, npt.NDArray[np.int64]]:
    """Return the parameters of a fee in fixed point (FEE-3): inner activations in 2^-16, weights as fine as is exact.

    Rounding moves fees a little; truthfulness and individual rationality rest on none of these numbers.
    """
    bidders, inputs, hidden = network.first.shape
    to_value = network.scale / float(unit) * (1 << share_bits)  # a fee of 1 in fine units
    steps = (  # weights, bias, units of the inputs and of the outputs, counted in 1 of the network
        (network.first.numpy(), network.first_bias.numpy(), network.scale / float(unit), ACTIVATION),
        (network.second.numpy(), network.second_bias.numpy(), ACTIVATION, ACTIVATION),
        (network.third.numpy()[:, :, None], network.third_bias.numpy()[:, None], ACTIVATION, to_value),
    )
    layers: list[npt.NDArray[np.int64]] = []
    shifts, bound = [], float(bid_max)
    for weights, bias, units_in, units_out in steps:
        matrix, offset = weights * (units_out / units_in), bias * units_out
        reach = float((np.abs(matrix).sum(axis=1) * bound + np.abs(offset)).max())
        shifts.append(min(MAX_SHIFT, max(0, math.floor(math.log2(LARGEST / max(reach, 1.0))))))
        layers += [np.rint(part * 2.0 ** shifts[-1]).astype(np.int64) for part in (matrix, offset)]
        bound = reach
    return {
        "fee_first": layers[0].reshape(bidders, bidders - 1, inputs // (bidders - 1), hidden),
        "fee_first_bias": layers[1],
        "fee_second": layers[2],
        "fee_second_bias": layers[3],
        "fee_third": layers[4][:, :, 0],
        "fee_third_bias": layers[5][:, 0],
        "fee_shifts": np.array(shifts, dtype=np.int64),
    }


def _without_repeats(
    menu: npt.NDArray[np.int64], boosts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Keep, of entries with equal shares, the first of greatest boost: the others can never be chosen."""
    best: dict[bytes, int] = {}
    for index in range(len(menu)):
        key = menu[index].tobytes()
        if key not in best or boosts[index] > boosts[best[key]]:
            best[key] = index
    kept = sorted(best.values())
    return menu[kept], boosts[kept]
