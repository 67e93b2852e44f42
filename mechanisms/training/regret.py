"""Training RegretNet within a budget of regret, against global or local misreports (NET-6, NET-7).

Source: regretnet-local, sections 2.4 and 3: the multiplier's update is its equation (2), local regret is the gain of
one gradient step from the truth. The released code starts the local step where the last epoch's ended; here it starts
from the truth in every batch, as the paper says.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.networks.network import lone_utilities
from mechanisms.networks.regret_net import RegretNet, regret_layers, regret_outcome
from mechanisms.training.loop import fresh_profiles, step_generator
from mechanisms.training.surrogate import autograd
from mechanisms.valuations import ValuationModel

FLOOR: Final = 1e-9  # under logarithms
MULTIPLIER: Final = "multiplier"
BOX: Final = 1 << 14  # profiles that the range of bids is read from
DECAYS: Final = (0.9, 0.999)  # of the misreports' Adam


class RegretNetTraining:
    """Auction networks trained to a share of regret in revenue.

    Args:
        bidders: Number of bidders n.
        items: Number of items m.
        generator: Draws the first weights and, on a CPU, what the misreports of all steps start from.
        width: Of every hidden layer.
        depth: Number of hidden layers.
        demand: "additive" or "unit".
        local: Whether misreports start from the truth; else from random bids.
        misreport_steps: Steps of Adam of the misreports: 25 in the paper, 1 where they are local.
        misreport_rate: Their learning rate, a share of the range of bids.
        budget: Regret over revenue, at first and from two thirds of the training on.
        multiplier: First multiplier of the regret.
        dual_rate: Learning rate of the multiplier.
        starts: Auctions trained side by side.
    """

    def __init__(
        self,
        bidders: int,
        items: int,
        generator: Generator,
        *,
        width: int,
        depth: int,
        demand: str = "additive",
        local: bool = False,
        misreport_steps: int = 25,
        misreport_rate: float = 0.1,
        budget: tuple[float, float] = (0.01, 0.0005),
        multiplier: float = 1.0,
        dual_rate: float = 0.5,
        starts: int = 1,
    ) -> None:
        if starts < 1 or misreport_steps < 1 or depth < 1 or width < 1:
            raise ValueError(
                f"{starts} networks, {misreport_steps} misreport steps, {depth} hidden layers of {width}, wanted at "
                "least 1 each"
            )
        if not 0 < budget[1] <= budget[0]:
            raise ValueError(f"budget of regret from {budget[0]} to {budget[1]}, wanted above 0 and not rising")
        self.bidders, self.items, self.starts = bidders, items, starts
        self._local, self._steps, self._rate = local, misreport_steps, misreport_rate
        self._budget, self._dual_rate = budget, dual_rate
        self.layers = regret_layers(
            starts, bidders, items, width=width, depth=depth, demand=demand, generator=generator
        )
        self.multiplier = torch.full((starts,), float(multiplier))
        self._lies = int(torch.randint(2**62, (), generator=generator))
        self._low, self._high = torch.zeros(bidders, items), torch.ones(bidders, items)

    def parameters(self) -> dict[str, Tensor]:
        """Return the auction's tensors by name, and the multiplier, which has no gradient and moves by itself."""
        return {**self.layers, MULTIPLIER: self.multiplier}

    def source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], Tensor]:
        """Return where minibatches come from; bids are kept within the range of the values, bidder by bidder."""
        drawn = values.sample(BOX, step_generator(seed, 12, 0)) / values.scale
        self._low, self._high = drawn.amin(0).float(), drawn.amax(0).float()
        return fresh_profiles(values)

    def utilities(
        self, values: Float[Tensor, "batch bidders items"], reports: Float[Tensor, "starts batch bidders items"]
    ) -> Float[Tensor, "starts batch bidders"]:
        """Return the utility of each bidder where it alone reports otherwise and the others tell the truth."""
        return lone_utilities(regret_outcome, self.layers, values, reports)

    def misreport(
        self, values: Float[Tensor, "batch bidders items"], progress: float | Tensor
    ) -> Float[Tensor, "starts batch bidders items"]:
        """Return what steps of Adam up the utility lead to, within the range of bids."""
        low, high = self._low.to(values.device), self._high.to(values.device)
        shape = (self.starts, *values.shape)
        if self._local:
            reports = values.expand(shape).clone()
        else:
            seeded = values.device.type != "cuda"
            fresh = step_generator(self._lies, 11, int(float(progress) * 2**30)) if seeded else None
            drawn = torch.rand(shape, generator=fresh, device=values.device, dtype=values.dtype)
            reports = low + drawn * (high - low)
        first, second = torch.zeros_like(reports), torch.zeros_like(reports)
        for step in range(1, self._steps + 1):
            slopes, _ = autograd({"reports": reports}, partial(self._gained, values, reports))
            up = -slopes["reports"]  # `autograd` returns what descends
            first.lerp_(up, 1 - DECAYS[0])
            second.mul_(DECAYS[1]).addcmul_(up, up, value=1 - DECAYS[1])
            spread = (second / (1 - DECAYS[1] ** step)).sqrt_().add_(1e-12)
            move = (first / (1 - DECAYS[0] ** step)).div_(spread) * (self._rate * (high - low))
            reports = torch.minimum(torch.maximum(reports + move, low), high)
        return reports.detach()

    def _gained(self, values: Tensor, reports: Tensor) -> Tensor:
        return self.utilities(values, reports).sum((1, 2))

    def gradients(
        self, drawn: Float[Tensor, "batch bidders items"], temperature: float | Tensor, progress: float | Tensor = 0.0
    ) -> tuple[dict[str, Tensor], Float[Tensor, " starts"]]:
        """Return the gradient of -rev + multiplier rgt (NET-6), and the revenue of each start; move the multiplier.

        Regret is summed over bidders and never below zero for any profile. The multiplier moves by the logarithm of
        regret over revenue over the budget, which falls geometrically over two thirds of the training.
        """
        reports = self.misreport(drawn, progress)
        revenue, regret = drawn.new_zeros(self.starts), drawn.new_zeros(self.starts)

        def merit() -> Tensor:
            nonlocal revenue, regret
            allocation, payment = regret_outcome(self.layers, drawn.expand(self.starts, -1, -1, -1))
            told = (allocation * drawn).sum(3) - payment
            regret = (self.utilities(drawn, reports) - told).clamp_min(0).sum(2).mean(1)
            revenue = payment.sum(2).mean(1)
            return revenue - self.multiplier * regret

        slopes, _ = autograd(self.layers, merit)
        revenue, regret = revenue.detach(), regret.detach()
        share = torch.as_tensor(progress, device=drawn.device, dtype=drawn.dtype).mul(1.5).clamp_max(1)
        start, end = self._budget
        budget = start * (end / start) ** share
        off = (regret + FLOOR).log() - (revenue + FLOOR).log() - torch.log(budget)
        self.multiplier.add_(self._dual_rate * off).clamp_min_(0)
        return {**slopes, MULTIPLIER: torch.zeros_like(self.multiplier)}, revenue

    def mechanism(self, start: int = 0, scale: float = 1.0) -> RegretNet:
        """Return the auction of one start."""
        kept = {name: tensor[start : start + 1].detach().cpu().clone() for name, tensor in self.layers.items()}
        return RegretNet(kept, self.bidders, self.items, scale)
