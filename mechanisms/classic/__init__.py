"""Auctions with a formula, and simple learned ones to compare with: each item or the whole sold by itself."""

from mechanisms.classic.conditional import ConditionalPrices
from mechanisms.classic.first_price import FirstPrice
from mechanisms.classic.myerson import Myerson, ironed, separate_myerson
from mechanisms.classic.second_price import SecondPrice, best_reserves, myerson_uniform, myerson_uniform_revenue, vcg
from mechanisms.classic.straight_jacket import straight_jacket, straight_jacket_prices

__all__ = [
    "ConditionalPrices",
    "FirstPrice",
    "Myerson",
    "SecondPrice",
    "best_reserves",
    "ironed",
    "myerson_uniform",
    "myerson_uniform_revenue",
    "separate_myerson",
    "straight_jacket",
    "straight_jacket_prices",
    "vcg",
]
