"""From a float mechanism to the exact artifact: quantisation, differential check."""

from mechanisms.export.differential import Differential, differential_check
from mechanisms.export.quantise import quantise

__all__ = ["Differential", "differential_check", "quantise"]
