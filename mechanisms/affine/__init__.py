"""Affine maximizers: exactly truthful mechanisms with a menu, boosts and weights."""

from mechanisms.affine.fee import FeeNetwork, IntegerWithFee, WithFee
from mechanisms.affine.menu import AffineMaximizer, IntegerAffineMaximizer
from mechanisms.affine.size_boost import IntegerSizeBoosted, SizeBoosted

__all__ = [
    "AffineMaximizer",
    "FeeNetwork",
    "IntegerAffineMaximizer",
    "IntegerSizeBoosted",
    "IntegerWithFee",
    "SizeBoosted",
    "WithFee",
]
