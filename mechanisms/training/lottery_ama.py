"""Affine maximizers with a free menu, trained through soft maxima (lottery-ama; docs/notation.md, AMA-4 to AMA-7).

With one bidder a menu with prices is all there is: RochetNet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.affine.members import Demand, deterministic_menu
from mechanisms.affine.menu import AffineMaximizer
from mechanisms.training.loop import fresh_profiles
from mechanisms.training.surrogate import menu_slopes
from mechanisms.valuations import ValuationModel

MAX_ENUMERATED: Final = 4096  # deterministic allocations to start from; a larger space starts at random


class LotteryAMA:
    """Parameters and objective of affine maximizers with unit weights, `starts` of them trained side by side.

    Args:
        bidders: Number of bidders n.
        items: Number of items m.
        entries: Menu size S besides the empty allocation; 0 takes all deterministic allocations.
        start: Spread of the starting logits: gap of the deterministic start, standard deviation of the random one.
        generator: Draws the random start.
        demand: "unit" keeps every bidder's expected number of items at most 1 (AMA-7).
        starts: Menus trained at once on the same draws.
        enumerated: Whether a menu that has room for all deterministic allocations starts with them.

    Raises:
        ValueError: If all deterministic allocations are asked for and there are more than 4,096.
    """

    def __init__(
        self,
        bidders: int,
        items: int,
        entries: int,
        start: float,
        generator: Generator,
        *,
        demand: Demand = "additive",
        starts: int = 1,
        enumerated: bool = True,
    ) -> None:
        self.bidders, self.items, self.starts = bidders, items, starts
        self.demand: Demand = demand
        count = (bidders + 1) ** items
        owners = None
        if count <= MAX_ENUMERATED and (entries == 0 or (enumerated and entries >= count)):
            held = deterministic_menu(bidders, items, demand)
            owners = torch.where(held.sum(1) > 0, held.argmax(1), bidders)  # owner `bidders` is nobody
        if owners is None and entries == 0:
            raise ValueError(f"{count} deterministic allocations, at most {MAX_ENUMERATED}: give a menu size")
        given = 0 if owners is None else len(owners)
        more = max(entries - given, 0)
        shape = (starts, given + more, bidders + 1, items)
        self.logits = torch.randn(shape, generator=generator) * start
        if owners is not None:
            # a softmax needs a gap, softplus ratios need what is not given far below zero
            rest = -start if demand == "unit" else 0.0
            self.logits[:, :given] = torch.full((given, bidders + 1, items), rest).scatter_(1, owners[:, None], start)
        # of unit demand a second matrix, normalised over items and nothing (AMA-7); others never use it
        wants = self.logits[:, :, :bidders].transpose(2, 3)
        self.choices = torch.cat([wants, -wants.amax(2, keepdim=True)], dim=2)
        self.boosts = torch.zeros(starts, given + more)

    def parameters(self) -> dict[str, Tensor]:
        """Return the trained tensors by name; the loop updates them in place."""
        if self.demand == "unit":
            return {"logits": self.logits, "choices": self.choices, "boosts": self.boosts}
        return {"logits": self.logits, "boosts": self.boosts}

    def source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], Tensor]:
        """Return where minibatches come from: fresh profiles."""
        return fresh_profiles(values)

    def gradients(
        self, drawn: Float[Tensor, "batch bidders items"], temperature: float | Tensor, progress: float | Tensor = 0.0
    ) -> tuple[dict[str, Tensor], Float[Tensor, " starts"]]:
        """Return the gradient of the negative surrogate revenue by parameter, and the surrogate of each start."""
        menu, back = self._unit_demand() if self.demand == "unit" else self._additive()
        empty = menu.new_zeros(self.starts, 1, self.bidders, self.items)
        full = torch.cat([menu, empty], dim=1)  # the empty allocation stays in every menu: IR by opting out
        boosts = torch.cat([self.boosts, self.boosts.new_zeros(self.starts, 1)], dim=1)
        slopes = menu_slopes(drawn, full, boosts, temperature)
        return {"boosts": -slopes.boosts[:, :-1]} | back(-slopes.menu[:, :-1]), slopes.revenue

    def fee_source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], tuple[Tensor, Tensor]]:
        """Return what draws profiles twice over: a fee looks at them, and so does `soft_outcome`."""
        draw = fresh_profiles(values)

        def twice(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
            profiles = draw(count, generator)
            return profiles, profiles

        return twice

    def soft_outcome(
        self, drawn: Float[Tensor, "batch bidders items"], temperature: float | Tensor
    ) -> tuple[Float[Tensor, "starts batch bidders"], Float[Tensor, "starts batch bidders"]]:
        """Return softened utilities and payments, with their autograd graph."""
        own, boosts = self._own_values(drawn)
        welfare = own.sum(0) + boosts
        chosen = torch.softmax(temperature * welfare, dim=-1)
        rivals = torch.logsumexp(temperature * (welfare - own), -1) / temperature  # (bidders, batch, starts)
        utility = (chosen * welfare).sum(-1) - rivals
        value = (chosen * own).sum(-1)
        return utility.permute(2, 1, 0), (value - utility).permute(2, 1, 0)

    def _own_values(self, drawn: Tensor) -> tuple[Float[Tensor, "bidders batch starts menu"], Tensor]:
        """Return each bidder's value of every entry, the empty one last, and the boosts."""
        menu = self._menu(self.logits, self.choices)
        full = torch.cat([menu, menu.new_zeros(self.starts, 1, self.bidders, self.items)], dim=1)
        boosts = torch.cat([self.boosts, self.boosts.new_zeros(self.starts, 1)], dim=1)
        columns = full.permute(2, 3, 0, 1).reshape(self.bidders, self.items, -1).contiguous()
        own = torch.bmm(drawn.transpose(0, 1), columns)
        return own.view(self.bidders, len(drawn), self.starts, -1), boosts

    def _menu(self, logits: Tensor, choices: Tensor) -> Float[Tensor, "starts menu bidders items"]:
        """Return the menus that parameters stand for (AMA-4, AMA-7)."""
        if self.demand == "unit":
            return _doubly_normalised(logits, choices)
        return torch.softmax(logits, dim=2)[:, :, : self.bidders]

    def _additive(self) -> tuple[Tensor, Callable[[Tensor], dict[str, Tensor]]]:
        """Return the menu, a softmax over bidders and nobody (AMA-4), and the way back to the logits."""
        shares = torch.softmax(self.logits, dim=2)

        def back(gradient: Tensor) -> dict[str, Tensor]:
            padded = torch.cat([gradient, gradient.new_zeros(*gradient.shape[:2], 1, self.items)], dim=2)
            return {"logits": shares * (padded - (shares * padded).sum(2, keepdim=True))}

        return shares[:, :, : self.bidders], back

    def _unit_demand(self) -> tuple[Tensor, Callable[[Tensor], dict[str, Tensor]]]:
        logits, choices = self.logits.detach().requires_grad_(True), self.choices.detach().requires_grad_(True)
        with torch.enable_grad():
            menu = _doubly_normalised(logits, choices)

        def back(gradient: Tensor) -> dict[str, Tensor]:
            by_logits, by_choices = torch.autograd.grad(menu, (logits, choices), gradient)
            return {"logits": by_logits, "choices": by_choices}

        return menu.detach(), back

    def mechanism(self, start: int = 0, scale: float = 1.0) -> AffineMaximizer:
        """Return the hard mechanism of one start, float64, boosts in units of value.

        Args:
            start: Which of the menus.
            scale: Training worked on values over this.
        """
        logits, choices = (tensor[start : start + 1].double().cpu() for tensor in (self.logits, self.choices))
        shares = self._menu(logits, choices)[0]
        menu = torch.cat([shares, torch.zeros(1, self.bidders, self.items, dtype=torch.float64)])
        boosts = torch.cat([self.boosts[start].double().cpu(), torch.zeros(1, dtype=torch.float64)]) * scale
        return AffineMaximizer(menu=menu, boosts=boosts, weights=torch.ones(self.bidders, dtype=torch.float64))


def _doubly_normalised(logits: Tensor, choices: Tensor) -> Tensor:
    """Return shares whose sums over bidders and over items are at most 1: the lesser of two softplus ratios (AMA-7)."""
    by_item = torch.nn.functional.softplus(logits)
    by_bidder = torch.nn.functional.softplus(choices)
    over_bidders = by_item / by_item.sum(-2, keepdim=True)
    over_items = by_bidder / by_bidder.sum(-2, keepdim=True)
    return torch.minimum(over_bidders[..., :-1, :], over_items[..., :-1, :].transpose(-1, -2))
