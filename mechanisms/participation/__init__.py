"""Who comes: participation models, their estimation from records, and data sets with absent bidders."""

from mechanisms.participation.estimate import Estimate, estimate_profiles
from mechanisms.participation.models import Counts, Independent, Markov, ParticipationModel, Profiles
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
    "estimate_profiles",
    "named_participation",
    "stratified",
    "tweaked",
]
