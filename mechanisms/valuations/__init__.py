"""Valuation models by their literature names (docs/notation.md, VAL)."""

from mechanisms.valuations.empirical import Empirical
from mechanisms.valuations.model import ValuationModel
from mechanisms.valuations.uniform import Uniform

__all__ = ["Empirical", "Uniform", "ValuationModel"]
