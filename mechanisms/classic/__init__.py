"""Auctions with a formula: second price, VCG, Myerson, first price."""

from mechanisms.classic.first_price import FirstPrice
from mechanisms.classic.second_price import SecondPrice, best_reserves, myerson_uniform, myerson_uniform_revenue, vcg

__all__ = ["FirstPrice", "SecondPrice", "best_reserves", "myerson_uniform", "myerson_uniform_revenue", "vcg"]
