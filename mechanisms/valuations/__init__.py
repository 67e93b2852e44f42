"""Valuation models by their literature names (docs/notation.md, VAL)."""

from mechanisms.valuations.correlated import (
    DirichletShare,
    EqualRevenue,
    LatentFactor,
    LinearMixture,
    LogNormalCopula,
    MultivariateNormal,
    PerfectNegative,
    Spherical,
)
from mechanisms.valuations.empirical import Empirical
from mechanisms.valuations.independent import (
    AsymmetricUniform,
    Beta,
    Exponential,
    HeterogeneousMixture,
    PowerLaw,
    Uniform,
)
from mechanisms.valuations.model import ValuationModel
from mechanisms.valuations.names import NAMES, named

__all__ = [
    "NAMES",
    "AsymmetricUniform",
    "Beta",
    "DirichletShare",
    "Empirical",
    "EqualRevenue",
    "Exponential",
    "HeterogeneousMixture",
    "LatentFactor",
    "LinearMixture",
    "LogNormalCopula",
    "MultivariateNormal",
    "PerfectNegative",
    "PowerLaw",
    "Spherical",
    "Uniform",
    "ValuationModel",
    "named",
]
