"""One network that generates the stage auctions of all participation profiles (docs/notation.md, AGG-6).

It gives the boost of every vector of bundle sizes in every profile, those that no round of the training has shown
included. Whatever it gives, each stage auction is an affine maximizer over all deterministic allocations: truthful.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Float, Int
from protocol.artifact.classes.aggregated import MAX_BIDDERS
from torch import Generator, Tensor

from mechanisms.affine.size_boost import programme
from mechanisms.aggregated import Aggregated
from mechanisms.networks.layers import initial_layers, perceptron
from mechanisms.participation import WithParticipation, all_profiles, profile_numbers, stratified
from mechanisms.training.aggregated import aggregate, profile_tables
from mechanisms.training.loop import step_generator
from mechanisms.training.surrogate import pull
from mechanisms.valuations import ValuationModel

POOL: Final = 1 << 17
POOL_NUMBERS: Final = 1 << 26
LARGEST: Final = 1 << 28  # numbers of one tensor of the network
EVEN: Final = 0.5  # share of the sample that is spread evenly over the profiles (PART-4)
IDENTITY: Final = 4  # numbers that tell bidders apart


class ProfileGenerator:
    """A network over the present bidders' bundle sizes: a sum over bidders, so that their order does not matter.

    Args:
        bidders: Number of bidders n.
        items: Number of items m.
        generator: Draws the first weights.
        reserve: Over the scale of the values: boosts start near reserve (m - sum of sizes).
        hidden: Width of the network.
        exchangeable: Whether bidders are alike; else the network is told who is who.

    Raises:
        ValueError: If the profiles are too many to list.
    """

    starts = 1

    def __init__(
        self, bidders: int, items: int, generator: Generator, *, reserve: float, hidden: int, exchangeable: bool = True
    ) -> None:
        if bidders > MAX_BIDDERS:
            raise ValueError(f"{bidders} bidders have too many profiles, at most {MAX_BIDDERS} bidders")
        if hidden < 1:
            raise ValueError(f"a network of width {hidden}, wanted at least 1")
        self.bidders, self.items, self.exchangeable = bidders, items, exchangeable
        self.vectors = programme(bidders, items).vectors
        self._rows = min(POOL, POOL_NUMBERS // ((bidders + 1) * len(self.vectors)))
        if self._rows < 1 << bidders or len(self.vectors) * hidden << bidders > LARGEST:
            raise ValueError(
                f"{1 << bidders} profiles of {bidders} x {items} with width {hidden} are too many to train"
            )
        self.present = all_profiles(bidders)
        self._reserve = reserve
        self.layers = {
            **initial_layers("token", 1, [(0 if exchangeable else IDENTITY) + 3, hidden, hidden], generator),
            **initial_layers("boost", 1, [hidden + 3, hidden, 1], generator),
        }
        self.layers["boost_1"] *= 0.1  # so that the reserves decide at first
        if not exchangeable:
            self.layers["identity"] = torch.randn(1, bidders, IDENTITY, generator=generator) * 0.5
        self._constants: tuple[Tensor, ...] = ()

    def parameters(self) -> dict[str, Tensor]:
        """Return the network's tensors by name."""
        return self.layers

    def source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], tuple[Tensor, Tensor]]:
        """Return what draws profile numbers and tables (SIZE-2, SIZE-3), over the scale of the values.

        Half of the pool is drawn as often as profiles come, half evenly over all that can come.
        """
        rows = self._rows
        generator = step_generator(seed, 7, 0)
        if isinstance(values, WithParticipation):
            drawn = stratified(values.values, values.participation, rows, generator, least=EVEN)
            sampled, present = drawn.values, drawn.present
        else:
            sampled = values.sample(rows, generator)
            present = (sampled > 0).any(2)  # a record says itself who came
        some = present.any(1)  # nobody pays where nobody is
        numbers = profile_numbers(present[some])
        pool = profile_tables((sampled[some] / values.scale).to(torch.float32), present[some])

        def draw(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
            chosen = torch.randint(len(pool), (count,), generator=generator)
            return numbers[chosen], pool[chosen]

        return draw

    def boosts(self) -> Float[Tensor, "profiles states"]:
        """Return the boosts of every profile, over the scale of the values, with their autograd graph."""
        device = self.layers["boost_0"].device
        if not self._constants or self._constants[0].device != device:  # once: a recorded step cannot copy
            self._constants = tuple(part.to(device) for part in self._inputs())
        owned, here, totals, start = self._constants
        if not self.exchangeable:
            identity = self.layers["identity"][0].repeat_interleave(self.items + 1, dim=0)
            owned = torch.cat([identity, owned], dim=1)
        tokens = perceptron(self.layers, "token", owned[None])[0]
        by_bidder = tokens.view(self.bidders, -1, tokens.shape[1])  # (bidders, sizes 0..m, hidden)
        held = torch.stack([by_bidder[i, self._sizes[:, i]] for i in range(self.bidders)], dim=1)
        pooled = torch.einsum("gi,sih->gsh", here, torch.tanh(held))
        count = here.sum(1)[:, None, None].expand(-1, len(self.vectors), 1) / self.bidders
        inputs = torch.cat([pooled, count, totals.expand(len(here), -1, -1)], dim=2)
        raised = perceptron(self.layers, "boost", inputs.flatten(0, 1)[None])[0]
        return start + raised.view(len(here), -1)

    def _inputs(self) -> tuple[Tensor, ...]:
        """Return what the network reads, and the boosts that it starts from."""
        n, m = self.bidders, self.items
        self._sizes = self.vectors.to(self.layers["boost_0"].device)
        size = torch.arange(m + 1, dtype=torch.float32).repeat(n)
        owned = torch.stack([size / m, (size > 0).float(), (size == m).float()], dim=1)
        total = self.vectors.sum(1).float()
        totals = torch.stack([total / m, (self.vectors > 0).sum(1) / n], dim=1)
        return owned, self.present.float(), totals, self._reserve * (m - total)

    def gradients(
        self,
        drawn: tuple[Int[Tensor, " batch"], Float[Tensor, "batch tables states"]],
        temperature: float | Tensor,
        progress: float | Tensor = 0.0,
    ) -> tuple[dict[str, Tensor], Float[Tensor, " starts"]]:
        """Return the gradient of the negative surrogate revenue (AMA-6) through the network, and that revenue.

        Every row has boosts of its own; an absent bidder pays nothing, so its rate is zero.
        """
        numbers, tables = drawn
        parameters = self.parameters()
        with torch.enable_grad():
            for tensor in parameters.values():
                tensor.requires_grad_(True)
            every = self.boosts()
            warm = temperature * every.detach()[numbers]
            rates = self._constants[1][numbers]
            wide = temperature * tables.movedim(1, 0) + warm  # (tables, batch, states)
            paid = (rates.sum(1)[:, None] - 1) * wide[0] + warm
            result = pull(wide[0][None], [rival[None] for rival in wide[1:]], paid[None], temperature, rates)
            slope = torch.zeros_like(every).index_add_(0, numbers, result.entry[0]) / len(numbers)
            slopes = torch.autograd.grad(every, list(parameters.values()), -slope)
        for tensor in parameters.values():
            tensor.requires_grad_(False)
        return dict(zip(parameters, slopes, strict=True)), result.revenue.mean()[None]

    def mechanism(self, start: int = 0, scale: float = 1.0) -> Aggregated:
        """Return the hard mechanism, float64, boosts in units of value; each least boost is 0."""
        boosts = self.boosts().detach().double().cpu() * scale
        if self.exchangeable:  # the first k seats stand for every group of k, sorted sizes for every order
            kept = torch.ones(self.bidders, self.bidders).tril().bool()
            ordered = self.vectors.sort(dim=1, descending=True).values
            number = {tuple(row): index for index, row in enumerate(self.vectors.tolist())}
            boosts = boosts[profile_numbers(kept)][:, [number[tuple(row)] for row in ordered.tolist()]]
        else:
            kept, boosts = self.present[1:], boosts[1:]
        return aggregate(boosts, kept, self.items, exchangeable=self.exchangeable)
