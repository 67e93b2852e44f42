"""The papers' theory as functions, each with its conditions."""

from mechanisms.evaluation.bounds.aggregated import (
    aggregated_revenue,
    profile_regret_ceilings,
    profile_revenue_ceilings,
    profile_revenue_floors,
    profile_revenue_floors_tight,
    revenue_without_regret,
    worst_split,
)
from mechanisms.evaluation.bounds.fees import (
    LossBound,
    fee_lipschitz,
    largest_fees,
    loss_bound,
    revenue_with_largest_fees,
)

__all__ = [
    "LossBound",
    "aggregated_revenue",
    "fee_lipschitz",
    "largest_fees",
    "loss_bound",
    "profile_regret_ceilings",
    "profile_revenue_ceilings",
    "profile_revenue_floors",
    "profile_revenue_floors_tight",
    "revenue_with_largest_fees",
    "revenue_without_regret",
    "worst_split",
]
