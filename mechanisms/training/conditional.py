"""Training conditional prices item by item: the smooth revenue of an offer to the highest bidder."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.affine.fee import LAYERS
from mechanisms.classic.conditional import ConditionalPrices
from mechanisms.training.loop import fresh_profiles
from mechanisms.training.surrogate import autograd
from mechanisms.valuations import ValuationModel


class ConditionalAuction:
    """Parameters and objective of `ConditionalPrices`: revenue of an offer p is p sigmoid(T (value - p)).

    Args:
        bidders: Number of bidders n, at least 2.
        items: Number of items m.
        generator: Draws the first weights.
        hidden: Width of both hidden layers.
        shared: Whether all bidders have one network for each item.
    """

    starts: int = 1

    def __init__(
        self, bidders: int, items: int, generator: Generator, *, hidden: int = 32, shared: bool = True
    ) -> None:
        if bidders < 2:
            raise ValueError("prices set by the rivals' bids need at least 2 bidders")
        self.bidders, self.items, self.shared = bidders, items, shared
        front = (1, 1 if shared else bidders, items)

        def uniform(*shape: int, fan: int) -> Tensor:
            return (2 * torch.rand(*front, *shape, generator=generator) - 1) / math.sqrt(fan)

        self.layers = {
            "first": uniform(bidders - 1, hidden, fan=1),
            "first_bias": uniform(hidden, fan=1),
            "second": uniform(hidden, hidden, fan=hidden),
            "second_bias": uniform(hidden, fan=hidden),
            "third": 0.1 * uniform(hidden, fan=hidden),
            "third_bias": torch.full(front, 0.4),
        }

    def parameters(self) -> dict[str, Tensor]:
        """Return the trained tensors by name, shape (starts, networks, items, ...)."""
        return self.layers

    def source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], Tensor]:
        """Return where minibatches come from: fresh profiles."""
        return fresh_profiles(values)

    def gradients(
        self, drawn: Float[Tensor, "batch bidders items"], temperature: float | Tensor, progress: float | Tensor = 0.0
    ) -> tuple[dict[str, Tensor], Float[Tensor, " starts"]]:
        """Return the gradient of the negative surrogate revenue by parameter, and the surrogate."""

        def surrogate() -> Tensor:
            offers = self._prices(1.0).offers(drawn)
            highest = drawn.argmax(1, keepdim=True)
            price, value = offers.gather(1, highest), drawn.gather(1, highest)
            return (price * torch.sigmoid(temperature * (value - price))).sum((1, 2)).mean()[None]

        return autograd(self.layers, surrogate)

    def _prices(self, scale: float) -> ConditionalPrices:
        shape = (self.bidders, self.items)
        layers = {name: self.layers[name][0].expand(*shape, *self.layers[name].shape[3:]) for name in LAYERS}
        return ConditionalPrices(**layers, scale=scale)

    def mechanism(self, start: int = 0, scale: float = 1.0) -> ConditionalPrices:
        """Return the hard mechanism, float64, in units of value."""
        prices = self._prices(scale)
        return ConditionalPrices(**{name: getattr(prices, name).double().cpu() for name in LAYERS}, scale=scale)
