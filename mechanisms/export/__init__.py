"""From a float mechanism to the exact artifact: quantisation, differential check, card."""

from mechanisms.export.card import write_card
from mechanisms.export.differential import Differential, differential_check
from mechanisms.export.quantise import quantise_affine

__all__ = ["Differential", "differential_check", "quantise_affine", "write_card"]
