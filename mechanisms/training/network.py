"""Training approximately truthful networks against misreports (NET-6, NET-7, NET-12).

Sources: the augmented Lagrangian is RegretNet's (Duetting et al. 2019), the budget of regret with its multiplier
equation (2) of regretnet-local, the fixed weights and the imitation of a classic auction those of auction-mech.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.networks.network import Network, lone_outcomes, lone_utilities
from mechanisms.outcome import Mechanism
from mechanisms.training.loop import fresh_profiles, step_generator
from mechanisms.training.surrogate import autograd
from mechanisms.valuations import ValuationModel

Misreports = Literal["random", "truth", "kept"]
Penalty = Literal["budget", "lagrangian", "fixed"]
FLOOR: Final = 1e-9  # under logarithms
BOX: Final = 1 << 14  # profiles that the range of bids is read from
DECAYS: Final = (0.9, 0.999)  # of the misreports' Adam
KEPT: Final = 1 << 16  # profiles whose misreports are kept
IMITATED: Final = (512, 2e-3)  # batch and learning rate of imitation


class NetworkTraining:
    """Auction networks trained against their bidders' misreports.

    Args:
        network: What is trained.
        layers: Its first weights; the first dimension counts the auctions side by side.
        bidders: Number of bidders n.
        items: Number of items m.
        generator: Draws, on a CPU, what the misreports of all steps start from.
        misreports: Where they start: "random" bids; the "truth", which is local regret; or what is "kept" of a fixed
            set of profiles, each improved by one step whenever it comes, and compared with a fresh one.
        misreport_steps: Steps of Adam of the misreports: 25 for random ones in the papers, 1 where they are local.
        misreport_rate: Their learning rate, a share of the range of bids.
        penalty: How regret is priced: by a multiplier that keeps it on a "budget", an augmented "lagrangian", or at a
            "fixed" weight.
        budget: Regret over revenue, at first and from two thirds of the training on.
        multiplier: First multiplier of the regret; the weight if fixed.
        dual_rate: Learning rate of the multiplier.
        curvature: Factor of the squared regret in the Lagrangian, over two.
        monotone: Weight of the shares that a misreport wins against its direction.
        target: Truthful auction that is imitated before training; none if left out.
        imitate: Steps of imitation.
    """

    def __init__(
        self,
        network: type[Network],
        layers: dict[str, Tensor],
        bidders: int,
        items: int,
        generator: Generator,
        *,
        misreports: Misreports = "random",
        misreport_steps: int = 25,
        misreport_rate: float = 0.1,
        penalty: Penalty = "budget",
        budget: tuple[float, float] = (0.01, 0.0005),
        multiplier: float = 1.0,
        dual_rate: float = 0.5,
        curvature: float = 1.0,
        monotone: float = 0.0,
        target: Mechanism | None = None,
        imitate: int = 0,
    ) -> None:
        if misreport_steps < 1:
            raise ValueError(f"{misreport_steps} misreport steps, wanted at least 1")
        if not 0 < budget[1] <= budget[0]:
            raise ValueError(f"budget of regret from {budget[0]} to {budget[1]}, wanted above 0 and not rising")
        if (target is None) != (imitate == 0):
            raise ValueError(
                f"{imitate} steps of imitation with{'out' if target is None else ''} an auction to imitate"
            )
        self.network, self.layers, self.bidders, self.items = network, layers, bidders, items
        self.starts = len(next(iter(layers.values())))
        self._misreports, self._steps, self._rate = misreports, misreport_steps, misreport_rate
        self._penalty, self._budget, self._dual_rate = penalty, budget, dual_rate
        self._curvature, self._monotone = curvature, monotone
        self._target, self._imitate, self.imitated = target, imitate, False
        self.multiplier = torch.full((self.starts, bidders if penalty == "lagrangian" else 1), float(multiplier))
        self._lies = int(torch.randint(2**62, (), generator=generator))
        self._low, self._high = torch.zeros(bidders, items), torch.ones(bidders, items)
        self._kept = torch.zeros(self.starts, KEPT if misreports == "kept" else 0, bidders, items)

    def parameters(self) -> dict[str, Tensor]:
        """Return the network's tensors by name."""
        return self.layers

    def buffers(self) -> dict[str, Tensor]:
        """Return what moves by itself: the multiplier and the misreports that are kept."""
        return {"multiplier": self.multiplier, "kept": self._kept}

    def source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], Any]:
        """Return where minibatches come from; imitate the target first.

        Bids are kept within the range of the values, bidder by bidder. Of kept misreports, a minibatch is a part of a
        fixed set of profiles, with their numbers.
        """
        drawn = values.sample(BOX, step_generator(seed, 12, 0)) / values.scale
        device = next(iter(self.layers.values())).device  # nothing is copied to it while a step is recorded
        self._low, self._high = drawn.amin(0).float().to(device), drawn.amax(0).float().to(device)
        if self._target is not None and not self.imitated:
            self._learn_target(self._target, values, seed)
        if self._misreports != "kept":
            return fresh_profiles(values)
        profiles = (values.sample(KEPT, step_generator(seed, 13, 0)) / values.scale).float()
        self._kept.copy_(profiles.expand_as(self._kept))

        def part(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
            # none twice in a minibatch, so that what is written back is what was tried; an odd stride visits all of 2^k
            start, stride = torch.randint(KEPT, (2,), generator=generator).tolist()
            index = (start + torch.arange(count) * (stride | 1)) % KEPT
            return profiles[index], index

        return part

    def _learn_target(self, target: Mechanism, values: ValuationModel, seed: int) -> None:
        """Fit the outcomes of the target by least squares (auction-mech, section 2)."""
        batch, rate = IMITATED
        optimizer = torch.optim.Adam(self.layers.values(), lr=rate)
        draw = fresh_profiles(values)
        for step in range(self._imitate):
            bids = draw(batch, step_generator(seed, 14, step))
            wanted = target.run(bids.double() * values.scale)
            shares, due = wanted.allocation.float(), wanted.payment.float() / values.scale
            bids, shares, due = (part.to(next(iter(self.layers.values())).device) for part in (bids, shares, due))

            def close(bids: Tensor = bids, shares: Tensor = shares, due: Tensor = due) -> Tensor:
                allocation, payment = self.network.rule(self.layers, bids.expand(self.starts, -1, -1, -1))
                missed = ((allocation - shares) ** 2).sum((2, 3)) + ((payment - due) ** 2).sum(2)
                return -missed.mean(1)

            slopes, _ = autograd(self.layers, close)
            for name, tensor in self.layers.items():
                tensor.grad = slopes[name]
            optimizer.step()
        for tensor in self.layers.values():
            tensor.grad = None
        self.imitated = True

    def utilities(
        self, values: Float[Tensor, "batch bidders items"], reports: Float[Tensor, "starts batch bidders items"]
    ) -> Float[Tensor, "starts batch bidders"]:
        """Return the utility of each bidder where it alone reports otherwise and the others tell the truth."""
        return lone_utilities(self.network.rule, self.layers, values, reports)

    def misreport(
        self,
        values: Float[Tensor, "batch bidders items"],
        progress: float | Tensor,
        kept: Float[Tensor, "starts batch bidders items"] | None = None,
    ) -> Float[Tensor, "starts batch bidders items"]:
        """Return misreports within the range of bids: where steps of Adam up the utility lead (NET-7).

        Args:
            values: True profiles.
            progress: Share of the training that is done; seeds what is drawn.
            kept: The best misreports so far, to be improved.
        """
        low, high = self._low.to(values.device), self._high.to(values.device)
        shape = (self.starts, *values.shape)
        seeded = values.device.type != "cuda"
        fresh = step_generator(self._lies, 11, int(float(progress) * 2**30)) if seeded else None

        def draw(*sizes: int) -> Tensor:
            return torch.rand(sizes, generator=fresh, device=values.device, dtype=values.dtype)

        if kept is not None:
            slopes, _ = autograd({"reports": kept}, partial(self._gained, values, kept))
            reach = self._rate * draw(*shape[:3], 1) ** 2  # long steps and short ones
            moved = kept - slopes["reports"].sign() * reach * (high - low)
            anywhere = low + draw(*shape) * (high - low)
            scaled = values * 1.2 * draw(*shape[:3], 1)
            other = torch.where(draw(*shape[:3], 1) < 0.5, anywhere, scaled)
            tries = torch.stack([kept, *(torch.minimum(torch.maximum(x, low), high) for x in (moved, other))])
            with torch.no_grad():
                worth = self.utilities(values.repeat(3, 1, 1), tries.transpose(0, 1).flatten(1, 2))
            best = worth.view(self.starts, 3, *shape[1:3]).argmax(1)  # (starts, batch, bidders)
            return tries.gather(0, best[None, ..., None].expand(1, *shape))[0]
        local = self._misreports == "truth"
        reports = values.expand(shape).clone() if local else low + draw(*shape) * (high - low)
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
        self, drawn: Any, temperature: float | Tensor, progress: float | Tensor = 0.0
    ) -> tuple[dict[str, Tensor], Float[Tensor, " starts"]]:
        """Return the gradient of the priced loss (NET-6), and the revenue of each start; move the multiplier.

        Regret is summed over bidders and never below zero for any profile. On a budget the multiplier moves by the
        logarithm of regret over revenue over the budget, which falls geometrically over two thirds of the training.
        """
        if isinstance(drawn, Tensor):
            values = drawn
            reports = self.misreport(values, progress)
        else:
            values, index = drawn
            reports = self.misreport(values, progress, self._kept[:, index])
            self._kept[:, index] = reports
        revenue, regrets = values.new_zeros(self.starts), values.new_zeros(self.starts, self.bidders)

        def merit() -> Tensor:
            nonlocal revenue, regrets
            allocation, payment = self.network.rule(self.layers, values.expand(self.starts, -1, -1, -1))
            told = (allocation * values).sum(3) - payment
            shares, due = lone_outcomes(self.network.rule, self.layers, values, reports)
            regrets = ((shares * values).sum(3) - due - told).clamp_min(0).mean(1)
            revenue = payment.sum(2).mean(1)
            priced = (self.multiplier * regrets).sum(1)
            if self._penalty == "lagrangian":
                priced = priced + self._curvature / 2 * (regrets**2).sum(1)
            if self._monotone:
                against = -((shares - allocation) * (reports - values)).sum(3)
                priced = priced + self._monotone * against.clamp_min(0).sum(2).mean(1)
            return revenue - priced

        slopes, _ = autograd(self.layers, merit)
        revenue, regrets = revenue.detach(), regrets.detach()
        if self._penalty == "budget":
            share = torch.as_tensor(progress, device=values.device, dtype=values.dtype).mul(1.5).clamp_max(1)
            start, end = self._budget
            budget = start * (end / start) ** share
            off = (regrets.sum(1) + FLOOR).log() - (revenue + FLOOR).log() - torch.log(budget)
            self.multiplier.add_(self._dual_rate * off[:, None]).clamp_min_(0)
        elif self._penalty == "lagrangian":
            self.multiplier.add_(self._dual_rate * regrets)
        return slopes, revenue

    def mechanism(self, start: int = 0, scale: float = 1.0) -> Network:
        """Return the auction of one start."""
        kept = {name: tensor[start : start + 1].detach().cpu().clone() for name, tensor in self.layers.items()}
        return self.network(kept, self.bidders, self.items, scale)
