"""The straight-jacket auction: one bidder, items i.i.d. U[0, 1], a price for each number of items."""

from __future__ import annotations

from math import factorial
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from mechanisms.affine.size_boost import SizeBoosted

GRID: Final = 1200  # cells of [0, 1]; prices come out to about 2e-4


def straight_jacket_prices(items: int) -> Float[Tensor, " items"]:
    """Return the prices of 1, 2, ..., m items, to about 2e-4.

    The price of k items makes 1 - k/(m+1) the volume of the profiles in [0, 1]^k at which every r largest values sum to
    at most the price of r. Source: Giannakopoulos and Koutsoupias (2018); optimal for m of at most 6.

    Args:
        items: Number of items m.

    Raises:
        ValueError: If there is no item.
    """
    if items < 1:
        raise ValueError(f"{items} items, wanted at least 1")
    step = 1.0 / GRID
    # mass[j, t]: falling chains of cells that end in cell j with cell numbers summing to t, within the prices so far
    width = GRID * items
    mass = torch.zeros(GRID, width, dtype=torch.float64)
    mass[torch.arange(GRID), torch.arange(GRID)] = 1.0
    prices: list[float] = []
    for count in range(1, items + 1):
        if count > 1:
            above = mass.flip(0).cumsum(0).flip(0) - mass / 2  # equal cells: half of their points are in order
            mass = torch.zeros_like(mass)
            for cell in range(GRID):
                mass[cell, cell:] = above[cell, : width - cell]
        volume = mass.sum(0).cumsum(0) * step**count * factorial(count)
        sums = (torch.arange(width, dtype=torch.float64) + count / 2 + 0.5) * step  # upper ends of the cells
        wanted = 1 - count / (items + 1)
        last = int(torch.searchsorted(volume, wanted))
        before = float(volume[last - 1]) if last else 0.0
        part = (wanted - before) / (float(volume[last]) - before)
        prices.append(float(sums[last]) - (1 - part) * step)
        mass[:, last] *= part
        mass[:, last + 1 :] = 0.0
    return torch.tensor(prices, dtype=torch.float64)


def straight_jacket(items: int) -> SizeBoosted:
    """Return the straight-jacket auction as an affine maximizer: the boost of k items is minus their price."""
    boosts = torch.cat([torch.zeros(1, dtype=torch.float64), -straight_jacket_prices(items)])
    return SizeBoosted(boosts=boosts, weights=torch.ones(1, dtype=torch.float64), items=items)
