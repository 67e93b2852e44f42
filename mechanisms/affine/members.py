"""Named members of the family of affine maximizers: deterministic menus and the boosts that each member ties together.

A member is an affine maximizer over deterministic allocations whose boosts are a linear image of a few terms:
boosts = incidence . terms, one row for each allocation. All are truthful whatever the terms are (AMA-2).
"""

from __future__ import annotations

from itertools import product
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mechanisms.affine.menu import AffineMaximizer

MAX_ALLOCATIONS: Final = 1 << 16
Demand = Literal["additive", "unit"]
Member = Literal["combinatorial", "bundling", "mbarp", "vvca"]


def deterministic_menu(bidders: int, items: int, demand: Demand = "additive") -> Float[Tensor, "menu bidders items"]:
    """Return every deterministic allocation, items sold or not; of unit demand those that give nobody two items.

    They come in the order of ownership words, item 0 first, nobody before all seats.

    Raises:
        ValueError: If there are more than 65,536.
    """
    count = (bidders + 1) ** items
    if count > MAX_ALLOCATIONS:
        raise ValueError(f"{count} deterministic allocations, at most {MAX_ALLOCATIONS}")
    owners = torch.tensor(list(product(range(bidders + 1), repeat=items)))
    held = torch.stack([owners == i + 1 for i in range(bidders)], dim=1).double()
    return held if demand == "additive" else held[held.sum(2).amax(1) <= 1]


def grand_bundle(bidders: int, items: int, reserve: float) -> AffineMaximizer:
    """Return the auction of all items as one lot: second price on the sums of values, reserve in units of value."""
    menu = torch.zeros(bidders + 1, bidders, items, dtype=torch.float64)
    for bidder in range(bidders):
        menu[bidder + 1, bidder] = 1.0
    boosts = torch.zeros(bidders + 1, dtype=torch.float64)
    boosts[0] = reserve
    return AffineMaximizer(menu=menu, boosts=boosts, weights=torch.ones(bidders, dtype=torch.float64))


def incidence(member: Member, menu: Float[Tensor, "menu bidders items"]) -> Float[Tensor, "menu terms"]:
    """Return which terms make up the boost of each allocation of a member.

    combinatorial: a term of its own for each allocation but the empty one (Sandholm and Likhodedov 2015). bundling: one
    bonus where one bidder gets all items. mbarp: a reserve for each unsold item and that bonus (Jehiel et al. 2007;
    Tang and Sandholm 2012). vvca: a term for each bidder and bundle, boosts are their sums (Likhodedov and Sandholm
    2004).
    """
    bidders, items = menu.shape[1:]
    taken = menu.sum(1)
    everything = (menu.sum(2) == items).any(1).double()[:, None]
    if member == "combinatorial":
        return torch.eye(len(menu), dtype=torch.float64)[:, (taken.sum(1) > 0)]
    if member == "bundling":
        return everything
    if member == "mbarp":
        return torch.cat([1 - taken, everything], dim=1)
    bundles = (menu * 2 ** torch.arange(items, dtype=torch.float64)).sum(2).long()  # (menu, bidders)
    terms = torch.zeros(len(menu), bidders, 1 << items, dtype=torch.float64)
    terms.scatter_(2, bundles[:, :, None], 1.0)
    return terms.flatten(1)
