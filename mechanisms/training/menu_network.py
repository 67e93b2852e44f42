"""Menus, boosts and weights that a transformer generates (AMA-9; the over-parameterisation of AMenuNet).

The network sees who the bidders and items are, never a bid, so what it generates is an affine maximizer like any other.
It is thrown away when training ends. One network can generate menus for every smaller number of bidders and items.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Final

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from mechanisms.affine.menu import AffineMaximizer
from mechanisms.training.surrogate import menu_slopes
from mechanisms.valuations import ValuationModel

TRUNK_STEP: Final = 0.001  # how much slower than the heads the trunk moves
WEIGHT_SPAN: Final = 0.7  # weights lie in exp(-0.7)..exp(0.7), about 1/2 to 2


class MenuGenerator(nn.Module):
    """From identities to a menu: embeddings of bidders, nobody and items, attention along items and along bidders.

    Args:
        bidders: Largest number of bidders.
        items: Largest number of items.
        entries: Menu size S.
        embedding: Numbers that stand for a bidder, and for an item.
        hidden: Width.
        layers: Rounds of attention.
        heads: Of each attention.
        weighted: Whether bidder weights are generated; else they are 1.
    """

    def __init__(
        self, bidders: int, items: int, entries: int, *, embedding: int, hidden: int, layers: int, heads: int,
        weighted: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weighted = weighted
        self.who = nn.Parameter(torch.empty(bidders + 1, embedding))  # the last is nobody
        self.what = nn.Parameter(torch.empty(items, embedding))
        self.join = nn.Linear(2 * embedding, hidden)

        def attention() -> nn.ModuleList:
            return nn.ModuleList(
                nn.TransformerEncoderLayer(hidden, heads, 2 * hidden, dropout=0.0, batch_first=True, norm_first=True)
                for _ in range(layers)
            )

        self.along_items, self.along_bidders = attention(), attention()
        self.norm = nn.LayerNorm(hidden)
        self.logits = nn.Linear(hidden, entries)
        self.boosts = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, entries))
        self.weights = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def state(self, bidders: int, items: int) -> Float[Tensor, "players items hidden"]:
        """Return what the network knows of each bidder, or nobody, and item."""
        who = torch.cat([self.who[:bidders], self.who[-1:]])
        pairs = torch.cat(
            [who[:, None].expand(-1, items, -1), self.what[None, :items].expand(bidders + 1, -1, -1)], dim=-1
        )
        state = self.join(pairs)
        for by_item, by_bidder in zip(self.along_items, self.along_bidders, strict=True):
            state = by_item(state)
            state = by_bidder(state.transpose(0, 1)).transpose(0, 1)
        return self.norm(state)  # type: ignore[no-any-return]

    def forward(
        self, bidders: int, items: int
    ) -> tuple[Float[Tensor, "menu players items"], Float[Tensor, " menu"], Float[Tensor, " bidders"]]:
        """Return logits over bidders and nobody, boosts, and weights."""
        state = self.state(bidders, items)
        drawn = self.weights(state[:bidders].mean(1))[:, 0]
        weights = torch.exp(WEIGHT_SPAN * torch.tanh(drawn)) if self.weighted else torch.ones_like(drawn)
        return self.logits(state).permute(2, 0, 1), self.boosts(state.mean((0, 1))), weights


class MenuNetwork:
    """Objective whose parameters are a generator's; the surrogate and its gradient by the menu are the free menu's.

    Args:
        bidders: Number of bidders n.
        items: Number of items m.
        entries: Menu size S besides the empty allocation.
        start: Standard deviation of the logits that the untrained network generates.
        generator: Draws the first weights.
        embedding: See `MenuGenerator`.
        hidden: See `MenuGenerator`.
        layers: See `MenuGenerator`.
        heads: See `MenuGenerator`.
        weighted: Train bidder weights too.
        varying: Train for every number of bidders up to n and of items up to m at once; the values must then be such
            that any bidders and items of a profile are a profile of the smaller auction. On the CPU only.
    """

    starts: int = 1

    def __init__(
        self, bidders: int, items: int, entries: int, start: float, generator: Generator, *, embedding: int = 10,
        hidden: int = 64, layers: int = 3, heads: int = 4, weighted: bool = False, varying: bool = False,
    ) -> None:  # fmt: skip
        if entries < 1:
            raise ValueError(f"a menu network generates {entries} entries, wanted at least 1")
        if hidden % heads:
            raise ValueError(f"hidden width {hidden} is no multiple of {heads} heads")
        self.bidders, self.items, self.entries, self.varying = bidders, items, entries, varying
        self.weighted = weighted
        with torch.random.fork_rng(devices=[]):  # the library's own first weights draw from the global generator
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            self._module = MenuGenerator(
                bidders, items, entries, embedding=embedding, hidden=hidden, layers=layers, heads=heads,
                weighted=weighted,
            )  # fmt: skip
            nn.init.normal_(self._module.who)
            nn.init.normal_(self._module.what)
        self._module.requires_grad_(False)
        last = self._module.boosts[2]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            # entries of a random head would all be near to each other, and training would end with a single bundle:
            # the head is fitted to entries that have nothing in common
            state = self._module.state(bidders, items).flatten(0, 1)
            wanted = torch.randn(len(state), entries, generator=generator) * start
            self._module.logits.weight.copy_(torch.linalg.lstsq(state, wanted, driver="gelsd").solution.T)
            nn.init.zeros_(self._module.logits.bias)
        self._tensors = {
            name: (tensor.detach() / _step_size(name))[None] for name, tensor in self._module.named_parameters()
        }

    def parameters(self) -> dict[str, Tensor]:
        """Return the network's tensors by name, with the dimension of starts in front."""
        return self._tensors

    def source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], Tensor]:
        """Return where minibatches come from: fresh profiles, of a drawn size if sizes vary."""

        def draw(count: int, generator: Generator) -> Tensor:
            profiles = (values.sample(count, generator) / values.scale).to(torch.float32)
            if not self.varying:
                return profiles
            sizes = list(product(range(1, self.bidders + 1), range(1, self.items + 1)))
            n, m = sizes[int(torch.randint(len(sizes), (1,), generator=generator))]
            return profiles[:, :n, :m]

        return draw

    def _generate(self, tensors: dict[str, Tensor], bidders: int, items: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return a menu that ends with the empty allocation, its boosts, and weights; a start in front of each."""
        logits, boosts, weights = torch.func.functional_call(
            self._module, {name: tensor[0] * _step_size(name) for name, tensor in tensors.items()}, (bidders, items)
        )
        shares = torch.softmax(logits, dim=1)[:, :bidders]
        menu = torch.cat([shares, shares.new_zeros(1, bidders, items)])
        return menu[None], torch.cat([boosts, boosts.new_zeros(1)])[None], weights[None]

    def gradients(
        self, drawn: Float[Tensor, "batch bidders items"], temperature: float | Tensor, progress: float | Tensor = 0.0
    ) -> tuple[dict[str, Tensor], Float[Tensor, " starts"]]:
        """Return the gradient of the negative surrogate revenue by parameter, and the surrogate."""
        used = {name: tensor.detach().requires_grad_(True) for name, tensor in self._tensors.items()}
        with torch.enable_grad():
            menu, boosts, weights = self._generate(used, drawn.shape[1], drawn.shape[2])
        chosen = weights.detach() if self.weighted else None
        slopes = menu_slopes(drawn, menu.detach(), boosts.detach(), temperature, chosen)
        pulled, pulls = [menu, boosts], [-slopes.menu, -slopes.boosts]
        if slopes.weights is not None:
            pulled, pulls = [*pulled, weights], [*pulls, -slopes.weights]
        found = torch.autograd.grad(pulled, list(used.values()), pulls, allow_unused=True)
        gradients = {
            name: torch.zeros_like(tensor) if slope is None else slope
            for (name, tensor), slope in zip(used.items(), found, strict=True)
        }
        return gradients, slopes.revenue

    def mechanism(
        self, start: int = 0, scale: float = 1.0, *, bidders: int | None = None, items: int | None = None
    ) -> AffineMaximizer:
        """Return the hard mechanism, float64, boosts in units of value.

        Args:
            start: There is one.
            scale: Training worked on values over this.
            bidders: Of a smaller auction; all if left out.
            items: Likewise.
        """
        cpu = {name: tensor.cpu() for name, tensor in self._tensors.items()}
        with torch.no_grad():
            menu, boosts, weights = self._generate(cpu, bidders or self.bidders, items or self.items)
        shares = menu[0].double()
        total = shares.sum(1, keepdim=True).clamp_min(1.0)  # a float32 softmax may sum to a rounding more than 1
        return AffineMaximizer(menu=shares / total, boosts=boosts[0].double() * scale, weights=weights[0].double())


def _step_size(name: str) -> float:
    """Return what a trained tensor is multiplied with before use: Adam then moves the trunk that much more slowly.

    Every step of the trunk moves all entries together; at the heads' rate they end as one bundle.
    """
    return 1.0 if name.startswith(("logits.", "boosts.", "weights.")) else TRUNK_STEP
