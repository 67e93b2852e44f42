"""Participation estimated from records, with exact confidence intervals (PART-5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from scipy.stats import beta
from torch import Tensor

from mechanisms.participation.models import Profiles


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Profiles that were seen, how often, and what their probabilities may be.

    Attributes:
        model: Seen profiles, the most frequent first, with their shares.
        low: Lower end of each probability's interval.
        high: Upper end.
        unseen: Upper end of the probability of all profiles that were never seen.
        rounds: Rounds of the record.
        confidence: Of each interval by itself.
    """

    model: Profiles
    low: Float[Tensor, " profiles"]
    high: Float[Tensor, " profiles"]
    unseen: float
    rounds: int
    confidence: float


def estimate_profiles(present: Bool[Tensor, "rounds bidders"], confidence: float = 0.95) -> Estimate:
    """Return the profiles of a record with Clopper-Pearson intervals, which assume independent rounds.

    Args:
        present: Who was present in each round.
        confidence: Of each interval by itself.

    Raises:
        ValueError: If there is no round, or the confidence is no chance.
    """
    if not len(present) or not 0 < confidence < 1:
        raise ValueError(f"{len(present)} rounds and confidence {confidence}, wanted at least 1 and between 0 and 1")
    profiles, times = torch.unique(present, dim=0, return_counts=True)
    order = times.argsort(descending=True, stable=True)
    profiles, times = profiles[order], times[order]
    rounds, tail = len(present), (1 - confidence) / 2
    count = times.numpy()
    low = torch.from_numpy(beta.ppf(tail, count, rounds - count + 1))
    high = torch.from_numpy(beta.ppf(1 - tail, count + 1, rounds - count)).where(times < rounds, 1.0)
    return Estimate(
        model=Profiles(profiles, times.double() / rounds),
        low=low,
        high=high,
        unseen=1 - (1 - confidence) ** (1 / rounds),
        rounds=rounds,
        confidence=confidence,
    )
