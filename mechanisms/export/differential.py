"""The differential check at export.

The artifact against float, integers and the reference evaluator (design section 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from onnx.reference import ReferenceEvaluator
from protocol.artifact.classes.network import CLASS, UNIT
from protocol.artifact.classes.size_boost import size_vectors
from protocol.artifact.engine import Engine
from protocol.artifact.header import Header
from protocol.artifact.static import CheckedArtifact

from mechanisms.affine import IntegerAffineMaximizer, IntegerSizeBoosted, IntegerWithFee
from mechanisms.aggregated import IntegerAggregated
from mechanisms.networks.regret_net import IntegerNetwork
from mechanisms.outcome import Mechanism

NETWORK_TOLERANCE: Final = 0.02
TWIN_WORK: Final = 1 << 22  # intermediate numbers of the rounds that plain Python repeats


class DifferentialError(Exception):
    """Two evaluators of one artifact disagree; nothing is exported."""


@dataclass(frozen=True, slots=True)
class Differential:
    """What the check compared, in units of value.

    Attributes:
        profiles: Profiles compared, random and adversarial.
        revenue_float: Mean revenue of the float mechanism on the random profiles.
        revenue_exact: Mean revenue of the artifact on the same profiles, rounded to the grid.
        payment_difference: Largest difference of a payment where both chose the same allocation.
        other_allocations: Random profiles where float and exact chose different allocations.
    """

    profiles: int
    revenue_float: float
    revenue_exact: float
    payment_difference: float
    other_allocations: int


def adversarial_bids(bidders: int, items: int, bid_max: int, source: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return bids meant to hurt: corners, ties, out of range, one unit apart; shape (batch, bidders, items)."""
    edge = np.array([0, 1, bid_max - 1, bid_max, bid_max + 1, -1, 2**40, -(2**40), np.iinfo(np.int64).max])
    corners = source.choice(edge, size=(64, bidders, items))
    level = source.integers(0, bid_max + 1, size=(32, 1, 1))
    ties = np.broadcast_to(level, (32, bidders, items)).copy()
    near = ties + source.integers(-1, 2, size=ties.shape)
    constant = [np.full((1, bidders, items), value) for value in (0, bid_max)]
    return np.concatenate([corners, ties, near, *constant]).astype(np.int64)


Twin = IntegerAffineMaximizer | IntegerSizeBoosted | IntegerWithFee | IntegerAggregated | IntegerNetwork


def twin(artifact: CheckedArtifact) -> Twin:
    """Return the mechanism of an artifact from its definition, in integers."""
    values = {name: np.asarray(value) for name, value in artifact.parameters.items()}
    header = artifact.header
    if header.kind in (CLASS.name, UNIT.name):
        return IntegerNetwork(values, header.bidders, header.items, header.unit_share, header.bid_max)
    if artifact.header.kind == "aggregated":
        return _aggregated_twin(artifact.header, values)
    base = _base_twin(artifact.header, values)
    if artifact.header.kind.endswith("-fee"):
        return IntegerWithFee(base, values, artifact.header.bid_max)
    return base


def _aggregated_twin(header: Header, values: dict[str, npt.NDArray[np.int64]]) -> IntegerAggregated:
    """Return, for every profile, the auction among its present bidders: the boosts that leave out everybody else."""
    vectors = size_vectors(header.bidders, header.items)
    stages: list[IntegerSizeBoosted | None] = [None]
    for number in range(1, 1 << header.bidders):
        here = np.array([digit == "1" for digit in f"{number:0{header.bidders}b}"])
        row = int(values["stage_of"][number])
        kept = values["boosts"][row][(vectors[:, ~here] == 0).all(axis=1)]
        stages.append(
            IntegerSizeBoosted(kept, values["weights"][row][here], header.items, header.unit_share, header.bid_max)
        )
    return IntegerAggregated(tuple(stages))


def _base_twin(header: Header, values: dict[str, npt.NDArray[np.int64]]) -> IntegerAffineMaximizer | IntegerSizeBoosted:
    if header.kind.startswith("size-boost"):
        return IntegerSizeBoosted(values["boosts"], values["weights"], header.items, header.unit_share, header.bid_max)
    return IntegerAffineMaximizer(values["menu"], values["boosts"], values["weights"], header.bid_max)


def differential_check(
    mechanism: Mechanism,
    artifact: CheckedArtifact,
    valuations: npt.NDArray[np.float64],
    *,
    unit: Fraction,
    seed: int,
) -> Differential:
    """Compare the artifact with the float mechanism, the integer twin and onnx.reference.

    Args:
        mechanism: The float mechanism.
        artifact: Its artifact.
        valuations: Random profiles, shape (batch, bidders, items), in units of value.
        unit: Value of one grid unit.
        seed: Decides the adversarial profiles.

    Raises:
        DifferentialError: If the artifact differs in one bit from the integer twin or onnx.reference.
    """
    header = artifact.header
    engine = Engine(artifact.data)
    source = np.random.default_rng(seed)
    bids = np.clip(np.rint(valuations / float(unit)), 0, header.bid_max).astype(np.int64)
    hostile = adversarial_bids(header.bidders, header.items, header.bid_max, source)
    everything = np.concatenate([bids[: min(512, max(8, TWIN_WORK // artifact.elements))], hostile])
    exact_twin = twin(artifact)
    everyone: npt.NDArray[np.int64] = np.ones(everything.shape[:2], dtype=np.int64)
    if isinstance(exact_twin, IntegerAggregated):
        everyone = source.integers(0, 2, everything.shape[:2])
        allocation, payment = exact_twin.run(everything, everyone)
    else:
        allocation, payment = exact_twin.run(everything)
    arrays = engine.run_arrays(everything, everyone)
    if (allocation != arrays["allocation"]).any() or (payment != arrays["payment"]).any():
        raise DifferentialError("the artifact differs from the integer twin")
    reference: Any = ReferenceEvaluator(artifact.model).run(
        ["allocation", "payment"], {"bids": everything, "participation": everyone}
    )
    if (reference[0] != arrays["allocation"]).any() or (reference[1] != arrays["payment"]).any():
        raise DifferentialError("the artifact differs from onnx.reference")
    came: npt.NDArray[np.int64] = np.ones(bids.shape[:2], dtype=np.int64)
    if isinstance(exact_twin, IntegerAggregated):  # the float auction reads presence from bids (AGG-4)
        came = np.asarray((bids > 0).any(axis=2), dtype=np.int64)
    exact = engine.run_arrays(bids, came)
    outcome = mechanism.run(torch.from_numpy(bids.astype(np.float64) * float(unit)))
    shares = exact["allocation"] / header.unit_share
    paid = exact["payment"] * float(unit / header.unit_share)
    tolerance = 2.0 / header.unit_share  # nearest shares differ by at most this after repair
    if isinstance(exact_twin, IntegerNetwork):
        tolerance = NETWORK_TOLERANCE  # fixed point moves every share a little (NET-8)
    same = (np.abs(shares - outcome.allocation.numpy()) <= tolerance).all(axis=(1, 2))
    gap = np.abs(paid - outcome.payment.numpy())[same]
    return Differential(
        profiles=len(everything) + len(bids),
        revenue_float=float(outcome.payment.sum(1).mean()),
        revenue_exact=float(paid.sum(axis=1).mean()),
        payment_difference=float(gap.max()) if gap.size else 0.0,
        other_allocations=int((~same).sum()),
    )
