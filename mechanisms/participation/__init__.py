"""Who comes: participation models, their estimation from records, and data sets with absent bidders."""

from mechanisms.participation.estimate import Estimate, estimate_profiles
from mechanisms.participation.models import (
    Counts,
    Independent,
    Markov,
    ParticipationModel,
    Profiles,
    all_profiles,
    profile_numbers,
)
from mechanisms.participation.names import named_participation
from mechanisms.participation.sampling import Stratified, WithParticipation, stratified, tweaked

__all__ = [
    "Counts",
    "Estimate",
    "Independent",
    "Markov",
    "ParticipationModel",
    "Profiles",
    "Stratified",
    "WithParticipation",
    "all_profiles",
    "estimate_profiles",
    "named_participation",
    "profile_numbers",
    "stratified",
    "tweaked",
]
