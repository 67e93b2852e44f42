"""Training rival-only fees together with the affine maximizer below them (FEE-4; ca-ama's mutual training).

First the fee is fitted with a linear price on every loss of a bidder, as a quantile of the bidders' utility given their
rivals' bids; no bidder opts out yet, so the gradient reaches every fee. Then opting out enters, softened by a sigmoid
that hardens: what is trained is the revenue that the mechanism with opt-out will earn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.affine.fee import FeeNetwork, WithFee, relu_network, rivals_of
from mechanisms.training.loop import step_generator
from mechanisms.training.surrogate import autograd
from mechanisms.valuations import ValuationModel

SAMPLE: Final = 16_384  # profiles that centre and scale the inputs


@runtime_checkable
class Base(Protocol):
    """What a trainable affine maximizer offers to a fee on top of it."""

    bidders: int
    items: int
    starts: int

    def parameters(self) -> dict[str, Tensor]:
        """Return the trained tensors by name."""
        ...

    def fee_source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], tuple[Tensor, Tensor]]:
        """Return what draws a minibatch: profiles over the scale of the values, and what `soft_outcome` takes."""
        ...

    def soft_outcome(self, drawn: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
        """Return the softened utilities and payments, shape (starts, batch, bidders), with their autograd graph."""
        ...

    def mechanism(self, start: int = 0, scale: float = 1.0) -> Any:
        """Return the hard mechanism of one start."""
        ...


class FeeAMA:
    """Parameters and objective of an affine maximizer with rival-only fees.

    Args:
        base: The affine maximizer; its tensors are trained too.
        generator: Draws the first weights.
        hidden: Width of both hidden layers.
        shared: Whether all bidders have one network; right where they are alike.
        price: What a unit of a bidder's loss costs while the fee is fitted; its quantile is about 1/price.
        fitted: Share of the training before opting out enters.
        hardness: First and last inverse temperature of opting out.
    """

    def __init__(
        self,
        base: Base,
        generator: Generator,
        *,
        hidden: int = 64,
        shared: bool = True,
        price: float = 3.0,
        fitted: float = 0.5,
        hardness: tuple[float, float] = (60.0, 600.0),
    ) -> None:
        if base.bidders < 2:
            raise ValueError("a fee set by the rivals' bids needs at least 2 bidders")
        self.base, self.price, self.fitted, self.hardness = base, price, fitted, hardness
        self.bidders, self.items, self.starts = base.bidders, base.items, base.starts
        networks, inputs = 1 if shared else base.bidders, (base.bidders - 1) * base.items
        front = (base.starts, networks)

        def uniform(*shape: int, fan: int) -> Tensor:
            return (2 * torch.rand(*front, *shape, generator=generator) - 1) / math.sqrt(fan)

        self.layers = {
            "first": uniform(inputs, hidden, fan=inputs),
            "first_bias": uniform(hidden, fan=inputs),
            "second": uniform(hidden, hidden, fan=hidden),
            "second_bias": uniform(hidden, fan=hidden),
            # a fee that starts at zero for everybody has no gradient: every fee starts near 0.1
            "third": 0.1 * uniform(hidden, fan=hidden),
            "third_bias": torch.full(front, 0.1),
        }
        # inputs are centred and scaled as the training profiles are; kept with the weights, never trained
        self.centre, self.spread = torch.zeros(*front, inputs), torch.ones(*front, inputs)

    def parameters(self) -> dict[str, Tensor]:
        """Return the tensors by name: the base's, `fee_LAYER` of shape (starts, networks, ...), the inputs' scale."""
        return {**self._trained(), "fee_centre": self.centre, "fee_spread": self.spread}

    def _trained(self) -> dict[str, Tensor]:
        return {**self.base.parameters(), **{f"fee_{name}": tensor for name, tensor in self.layers.items()}}

    def source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], tuple[Tensor, Tensor]]:
        """Return where minibatches come from; centre and scale the networks' inputs by a sample of them."""
        draw = self.base.fee_source(values, seed)
        inputs = rivals_of(draw(SAMPLE, step_generator(seed, 9, 0))[0])  # (bidders, sample, inputs)
        if self.centre.shape[1] == 1:
            inputs = inputs.flatten(0, 1)[None]
        self.centre.copy_(inputs.mean(1).expand_as(self.centre))
        self.spread.copy_(inputs.std(1).clamp_min(1e-6).expand_as(self.spread))
        return draw

    def gradients(
        self, drawn: tuple[Tensor, Tensor], temperature: float | Tensor, progress: float | Tensor
    ) -> tuple[dict[str, Tensor], Float[Tensor, " starts"]]:
        """Return the gradient of the negative surrogate by parameter, and the surrogate of each start (FEE-4)."""
        profiles, numbers = drawn

        def surrogate() -> Tensor:
            return self._surrogate(profiles, numbers, temperature, progress)

        slopes, revenue = autograd(self._trained(), surrogate)
        fixed = {name: torch.zeros_like(t) for name, t in self.parameters().items() if name not in slopes}
        return slopes | fixed, revenue

    def _surrogate(
        self, profiles: Tensor, numbers: Tensor, temperature: float | Tensor, progress: float | Tensor
    ) -> Float[Tensor, " starts"]:
        utility, payment = self.base.soft_outcome(numbers, temperature)
        fee = self._fees(profiles)
        fitting = payment + fee - self.price * torch.relu(fee - utility)
        done = torch.as_tensor(progress, device=fee.device)
        first, last = self.hardness
        hardness = first * (last / first) ** ((done - self.fitted) / (1 - self.fitted)).clamp_min(0.0)
        opting = torch.sigmoid(hardness * (utility - fee)) * (payment + fee)
        # both are worked out: a step recorded on a GPU cannot branch
        return torch.where(done < self.fitted, fitting, opting).sum(-1).mean(-1)

    def _fees(self, profiles: Tensor) -> Float[Tensor, "starts batch bidders"]:
        inputs = (rivals_of(profiles) - self.centre[:, :, None]) / self.spread[:, :, None]
        return torch.relu(relu_network(inputs, self.layers)).transpose(1, 2)

    def mechanism(self, start: int = 0, scale: float = 1.0) -> WithFee:
        """Return the hard mechanism of one start, float64, in units of value."""
        layers = {}
        first = self.layers["first"][start].double() / self.spread[start].double()[:, :, None]
        moved = torch.einsum("ni,nih->nh", self.centre[start].double(), first)
        folded = {"first": first, "first_bias": self.layers["first_bias"][start].double() - moved}
        for name, tensor in self.layers.items():
            one = folded.get(name, tensor[start].double())
            layers[name] = one.cpu().expand(self.bidders, *one.shape[1:]).clone()
        return WithFee(self.base.mechanism(start, scale), FeeNetwork(**layers, scale=scale))
