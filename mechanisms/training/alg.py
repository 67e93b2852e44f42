"""Training ALGNet against a misreporting network (docs/notation.md, NET-3, NET-4).

Source: credible-repeated-auctions, sections 5.3 and 5.4, with the sign of its loss corrected: printed, the last term
rewards regret.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.networks.alg_net import AlgNet, alg_layers, alg_outcome
from mechanisms.networks.layers import initial_layers, perceptron
from mechanisms.networks.network import lone_utilities
from mechanisms.training.loop import fresh_profiles, step_generator
from mechanisms.training.surrogate import autograd
from mechanisms.valuations import ValuationModel

FLOOR: Final = 1e-6  # under square roots, whose slope at zero is infinite
ADAM: Final = (0.9, 0.999, 1e-8)


class AlgNetTraining:
    """An auction network and the misreporter it is trained against, which starts anew in every step.

    Args:
        bidders: Number of bidders n.
        items: Number of items m.
        generator: Draws the first weights and, on a CPU, what the misreporters of all steps start from.
        width: Of every hidden layer of all networks.
        depth: Number of layers of all networks.
        misreport_steps: Most steps of the misreporter's Adam for one step of the auction.
        misreport_rate: Its learning rate.
        reach: Misreports go up to so many times the value: 1 in the paper, which leaves overbidding unpunished.
        patience: It stops after so many steps without more regret; never if 0, nor on a GPU.
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
        misreport_steps: int,
        misreport_rate: float,
        reach: float = 1.0,
        patience: int = 0,
        starts: int = 1,
    ) -> None:
        if starts < 1:
            raise ValueError(f"{starts} networks side by side, wanted at least 1")
        if misreport_steps < 1 or depth < 2 or width < 1:
            raise ValueError(f"{misreport_steps} misreport steps, {depth} layers of {width}, wanted at least 1, 2, 1")
        self.bidders, self.items, self.starts = bidders, items, starts
        self._width, self._depth, self._patience = width, depth, patience
        self._steps, self._rate, self._reach = misreport_steps, misreport_rate, reach
        self.layers = alg_layers(starts, bidders, items, width=width, depth=depth, generator=generator)
        self._lies = int(torch.randint(2**62, (), generator=generator))

    def parameters(self) -> dict[str, Tensor]:
        """Return the auction's tensors by name; the misreporter's are forgotten after each step."""
        return self.layers

    def source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], Tensor]:
        """Return where minibatches come from: fresh profiles, absent bidders' rows at zero."""
        return fresh_profiles(values)

    def utilities(
        self, values: Float[Tensor, "batch bidders items"], reports: Float[Tensor, "starts batch bidders items"]
    ) -> Float[Tensor, "starts batch bidders"]:
        """Return the utility of each bidder where it alone reports otherwise and the others tell the truth."""
        return lone_utilities(alg_outcome, self.layers, values, reports)

    def misreport(
        self, values: Float[Tensor, "batch bidders items"], progress: float | Tensor
    ) -> Float[Tensor, "starts batch bidders items"]:
        """Return what a misreporter trained from scratch reports: ratios in [0, reach] of the values (section 5.3)."""
        n, m, device = self.bidders, self.items, values.device
        fresh = None if device.type == "cuda" else step_generator(self._lies, 11, int(float(progress) * 2**30))
        widths = [n * m, *[self._width] * (self._depth - 1), n * m]
        lie = initial_layers("lie", self.starts, widths, fresh, device)
        moments = {name: (torch.zeros_like(tensor), torch.zeros_like(tensor)) for name, tensor in lie.items()}
        flat = values.reshape(1, len(values), -1).expand(self.starts, -1, -1)

        def reports() -> Tensor:
            ratio = self._reach * torch.sigmoid(perceptron(lie, "lie", flat))
            return ratio.view(self.starts, len(values), n, m) * values

        best, stale = -torch.inf, 0
        for step in range(1, self._steps + 1):
            slopes, gained = autograd(lie, lambda: self.utilities(values, reports()).sum(2).mean(1))
            _adam(lie, slopes, moments, self._rate, step)
            if self._patience and device.type != "cuda":
                total = float(gained.sum())
                best, stale = (total, 0) if total > best else (best, stale + 1)
                if stale >= self._patience:
                    break
        return reports()

    def gradients(
        self, drawn: Float[Tensor, "batch bidders items"], temperature: float | Tensor, progress: float | Tensor = 0.0
    ) -> tuple[dict[str, Tensor], Float[Tensor, " starts"]]:
        """Return the gradient of -(sqrt rev - sqrt rgt) + rgt (NET-4), and the revenue of each start.

        Regret is summed over bidders and never below zero for any profile.
        """
        reports = self.misreport(drawn, progress)
        revenue = drawn.new_zeros(self.starts)

        def merit() -> Tensor:
            nonlocal revenue
            truth = drawn.expand(self.starts, -1, -1, -1)
            allocation, payment = alg_outcome(self.layers, truth)
            told = (allocation * drawn).sum(3) - payment
            regret = (self.utilities(drawn, reports) - told).clamp_min(0).sum(2).mean(1)
            revenue = payment.sum(2).mean(1)
            return (revenue + FLOOR).sqrt() - (regret + FLOOR).sqrt() - regret

        slopes, _ = autograd(self.layers, merit)
        return slopes, revenue.detach()

    def mechanism(self, start: int = 0, scale: float = 1.0) -> AlgNet:
        """Return the auction of one start."""
        kept = {name: tensor[start : start + 1].detach().cpu().clone() for name, tensor in self.layers.items()}
        return AlgNet(kept, self.bidders, self.items, scale)


def _adam(
    parameters: dict[str, Tensor],
    slopes: dict[str, Tensor],
    moments: dict[str, tuple[Tensor, Tensor]],
    rate: float,
    step: int,
) -> None:
    """Take a step of Adam (Kingma and Ba 2015) down the slopes, in place."""
    first_decay, second_decay, epsilon = ADAM
    rate *= (1 - second_decay**step) ** 0.5 / (1 - first_decay**step)
    names = list(parameters)
    tensors, down = [parameters[name] for name in names], [slopes[name] for name in names]
    first, second = ([moments[name][k] for name in names] for k in (0, 1))
    torch._foreach_lerp_(first, down, 1 - first_decay)
    torch._foreach_mul_(second, second_decay)
    torch._foreach_addcmul_(second, down, down, 1 - second_decay)
    spread = torch._foreach_sqrt(second)
    torch._foreach_add_(spread, epsilon)
    torch._foreach_addcdiv_(tensors, first, spread, -rate)
