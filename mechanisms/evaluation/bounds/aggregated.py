"""What the revenue and regret of an aggregated auction say of its stage auctions (credible-repeated-auctions, A.3).

Regret is a mean over profiles, never negative and summed over bidders; averaged over bidders only lemma A.1 holds.
`optima` are the greatest revenues of truthful auctions by participation profile, or anything above them: with mere
floors of those the ceilings below, and the floors made from them, are not proved. They rest on corollary A.0.1, which
is about Bayes-Nash truthfulness, so for two bidders and more the optima are those of Bayes-Nash truthful auctions,
which may exceed the best DSIC revenue.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Numbers = Sequence[float] | npt.NDArray[np.float64]


def aggregated_revenue(probabilities: Numbers, revenues: Numbers) -> float:
    """Return the mean revenue of a round, sum_i q_i rev_i (theorem 4.6).

    Raises:
        ValueError: If the probabilities are no distribution.
    """
    q = _distribution(probabilities)
    return float(q @ np.asarray(revenues, dtype=np.float64))


def revenue_without_regret(revenue: float, regret: float) -> float:
    """Return (sqrt rev - sqrt rgt)^2, or 0 where regret exceeds revenue (corollary A.0.1, lemma 5.1).

    Some truthful auction earns that much: dominant-strategy truthful for one bidder, Bayes-Nash truthful for more. For
    more bidders no DSIC statement is known, and the lemma says nothing of the network itself.
    """
    if revenue < 0 or regret < 0:
        raise ValueError(f"revenue {revenue} and regret {regret}, wanted both at least 0")
    return float(max(revenue**0.5 - regret**0.5, 0.0) ** 2)


def profile_regret_ceilings(regret: float, probabilities: Numbers) -> npt.NDArray[np.float64]:
    """Return rgt / q_i, above which no stage auction's regret lies, as rgt = sum_i q_i rgt_i (lemma A.1)."""
    return regret / _positive(probabilities)


def profile_revenue_ceilings(regret: float, probabilities: Numbers, optima: Numbers) -> npt.NDArray[np.float64]:
    """Return (sqrt rev*_i + sqrt(rgt / q_i))^2, above which no stage auction's revenue lies (lemma A.2)."""
    ceilings = profile_regret_ceilings(regret, probabilities)
    result: npt.NDArray[np.float64] = (np.sqrt(np.asarray(optima, dtype=np.float64)) + np.sqrt(ceilings)) ** 2
    return result


def profile_revenue_floors(
    revenue: float, regret: float, probabilities: Numbers, optima: Numbers
) -> npt.NDArray[np.float64]:
    """Return what each stage auction earns at least (theorem A.3).

    rev*_i + (rev - rev*)/q_i - (|G| - 1) rgt / q_i - 2 sqrt(rgt)/q_i sum_{j != i} sqrt(q_j rev*_j): all others are
    taken to have all of the regret each. A floor may be negative: it then says nothing.
    """
    q, best = _positive(probabilities), np.asarray(optima, dtype=np.float64)
    roots = np.sqrt(q * best)
    loss = (len(q) - 1) * regret + 2 * regret**0.5 * (roots.sum() - roots)
    floors: npt.NDArray[np.float64] = best + (revenue - q @ best - loss) / q
    return floors


def worst_split(probabilities: Numbers, optima: Numbers, profile: int) -> npt.NDArray[np.float64]:
    """Return the shares u of the regret that let the other profiles earn most (proposition A.4's inner maximisation).

    The sum of q_j (sqrt rev*_j + sqrt(u_j rgt / q_j))^2 over j other than the profile is, with sum u = 1, a constant
    plus 2 sqrt(rgt) sum_j sqrt(q_j rev*_j) sqrt(u_j); by Cauchy and Schwarz u_j is proportional to q_j rev*_j.
    """
    worth = _positive(probabilities) * np.asarray(optima, dtype=np.float64)
    worth[profile] = 0.0
    total = worth.sum()
    return worth / total if total else worth


def profile_revenue_floors_tight(
    revenue: float, regret: float, probabilities: Numbers, optima: Numbers
) -> npt.NDArray[np.float64]:
    """Return what each stage auction earns at least, the regret split among the others at its worst (proposition A.4).

    (rev - (sqrt(sum_{j != i} q_j rev*_j) + sqrt rgt)^2) / q_i, the maximisation done (`worst_split`). Printed, the
    proposition has rev*_i and rgt_i under the sum; the argument needs rev*_j and rgt / q_j.
    """
    q, best = _positive(probabilities), np.asarray(optima, dtype=np.float64)
    # summed without the profile's own term: taking it off the whole would leave rounding under the root
    others = (q * best * (1 - np.eye(len(q)))).sum(axis=1)
    floors: npt.NDArray[np.float64] = (revenue - (np.sqrt(others) + regret**0.5) ** 2) / q
    return floors


def _distribution(probabilities: Numbers) -> npt.NDArray[np.float64]:
    q = np.asarray(probabilities, dtype=np.float64)
    if (q < 0).any() or abs(q.sum() - 1) > 1e-9:
        raise ValueError(f"probabilities must be at least 0 and sum to 1, got {q.tolist()}")
    return q


def _positive(probabilities: Numbers) -> npt.NDArray[np.float64]:
    q = _distribution(probabilities)
    if not (q > 0).all():
        raise ValueError(f"profiles of probability 0 have no bound, got {q.tolist()}")
    return q
