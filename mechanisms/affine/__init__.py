"""Affine maximizers: exactly truthful mechanisms with a menu, boosts and weights."""

from mechanisms.affine.menu import AffineMaximizer, IntegerAffineMaximizer

__all__ = ["AffineMaximizer", "IntegerAffineMaximizer"]
