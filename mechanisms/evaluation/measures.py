"""Evaluating float mechanisms on fresh draws (docs/notation.md, EVAL)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from mechanisms.outcome import Mechanism, ir_violation, overallocation, revenue, utilities, welfare
from mechanisms.training.loop import step_generator
from mechanisms.valuations import ValuationModel

EXACT_ZERO: Final = "exact_zero"
SEARCHED: Final = "searched_lower_bound"
CHUNK: Final = 65_536
SCALES: Final = (0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.05, 1.1, 1.25, 1.5, 2.0)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Measures of a mechanism on fresh draws, in units of value.

    Attributes:
        revenue: Mean over profiles of the sum of payments.
        revenue_se: Its standard error.
        regret: Largest over bidders of the mean regret.
        regret_kind: "exact_zero" (by theorem, for its class) or "searched_lower_bound".
        regret_search: How it was searched.
        regret_found: What the search found even where the theorem says zero: rounding of floats, or a defect.
        ir_violation: Largest loss of a truthful bidder.
        ir_loss: Mean over profiles of the sum of truthful bidders' losses: ca-ama's Regret_IR.
        overallocation: Largest share given out beyond the whole.
        welfare: Mean sum of values.
        samples: Profiles drawn.
    """

    revenue: float
    revenue_se: float
    regret: float
    regret_kind: str
    regret_search: str
    regret_found: float
    ir_violation: float
    ir_loss: float
    overallocation: float
    welfare: float
    samples: int


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Return mean and standard error of a sample."""
    count = len(values)
    spread = float(values.std(unbiased=True)) if count > 1 else 0.0
    return float(values.mean()), spread / math.sqrt(count)


def surviving_revenue(revenue: float, regret: float) -> float:
    """Return what some truthful auction for one bidder earns at least: (sqrt rev - sqrt rgt)^2 (EVAL-6).

    Holds for one bidder and mean regret; for more bidders no such theorem is known.
    Source: Balcan, Blum, Hartline, Mansour 2005, with menus at a discount.
    """
    return max(math.sqrt(max(revenue, 0.0)) - math.sqrt(max(regret, 0.0)), 0.0) ** 2


def search_regret(mechanism: Mechanism, valuations: Tensor, values: ValuationModel, *, draws: int, seed: int) -> Tensor:
    """Return each bidder's best gain found from a misreport, shape (batch, bidders): a lower bound of its regret.

    Tries every scaling of `SCALES` and `draws` reports drawn from the values' own distribution.
    """
    truthful = utilities(mechanism.run(valuations), valuations)
    best = torch.zeros_like(truthful)
    for bidder in range(mechanism.bidders):
        own = valuations[:, bidder]
        reports = [own * scale for scale in SCALES]
        reports += [values.sample(len(valuations), step_generator(seed, 3, draw))[:, bidder] for draw in range(draws)]
        for report in reports:
            misreport = valuations.clone()
            misreport[:, bidder] = report
            gain = utilities(mechanism.run(misreport), valuations)[:, bidder] - truthful[:, bidder]
            best[:, bidder] = torch.maximum(best[:, bidder], gain)
    return best


def fresh(values: ValuationModel, samples: int, seed: int) -> Iterator[Float[Tensor, "batch bidders items"]]:
    """Yield the profiles that revenue is measured on, in chunks that bound memory: the same for all of one seed."""
    for done in range(0, samples, CHUNK):
        yield values.sample(min(CHUNK, samples - done), step_generator(seed, 0, done))


def evaluate(
    mechanism: Mechanism, values: ValuationModel, *, samples: int, seed: int, searched: int = 2000, draws: int = 20
) -> Evaluation:
    """Evaluate a mechanism at truthful reports.

    Args:
        mechanism: The hard mechanism, never its surrogate.
        values: Fresh draws come from here.
        samples: Profiles for revenue, IR and feasibility.
        seed: Decides every draw.
        searched: Profiles of the misreport search.
        draws: Random misreports per profile and bidder.
    """
    total, squares, income, loss, over, lost = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for valuations in fresh(values, samples, seed):
        outcome = mechanism.run(valuations)
        paid = revenue(outcome)
        total, squares = total + float(paid.sum()), squares + float((paid**2).sum())
        income += float(welfare(outcome, valuations).sum())
        loss, over = max(loss, ir_violation(outcome, valuations)), max(over, overallocation(outcome))
        lost += float((-utilities(outcome, valuations)).clamp_min(0).sum())
    mean = total / samples
    variance = max(squares / samples - mean**2, 0.0) * samples / max(samples - 1, 1)
    valuations = values.sample(min(searched, samples), step_generator(seed, 3, 1 << 30))
    found = float(search_regret(mechanism, valuations, values, draws=draws, seed=seed).mean(0).max())
    return Evaluation(
        revenue=mean,
        revenue_se=math.sqrt(variance / samples),
        regret=0.0 if mechanism.truthful else found,
        regret_kind=EXACT_ZERO if mechanism.truthful else SEARCHED,
        regret_search=f"{len(SCALES)} scalings and {draws} draws on {len(valuations)} profiles",
        regret_found=found,
        ir_violation=loss,
        ir_loss=lost / samples,
        overallocation=over,
        welfare=income / samples,
        samples=samples,
    )
