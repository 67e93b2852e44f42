"""Affine maximizers: exactly truthful mechanisms with a menu, boosts and weights."""

from mechanisms.affine.fee import FeeNetwork, WithFee
from mechanisms.affine.menu import AffineMaximizer, IntegerAffineMaximizer
from mechanisms.affine.size_boost import IntegerSizeBoosted, SizeBoosted

__all__ = ["AffineMaximizer", "FeeNetwork", "IntegerAffineMaximizer", "IntegerSizeBoosted", "SizeBoosted", "WithFee"]
