"""The lottery AMA with a free menu, trained through soft maxima (lottery-ama; docs/notation.md, AMA-4 to AMA-6).

The leave-one-out welfare enters by log-sum-exp, a true upper envelope whose gradient is a probability vector; only the
winning allocation is softened by the temperature's softmax. The gradient is written out: no autograd graph is built.
"""

from __future__ import annotations

from itertools import product
from typing import Final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.affine.menu import AffineMaximizer

MAX_ENUMERATED: Final = 4096  # deterministic allocations to start from; a larger space starts at random


class LotteryAMA:
    """Parameters and objective of a lottery affine maximizer with unit weights.

    Args:
        bidders: Number of bidders n.
        items: Number of items m.
        entries: Menu size S besides the empty allocation; 0 takes all (n+1)^m deterministic allocations.
        start: Spread of the starting logits: gap of the deterministic start, standard deviation of the random one.
        generator: Draws the random start.

    Raises:
        ValueError: If all deterministic allocations are asked for and there are more than 4,096.
    """

    truthful = True

    def __init__(self, bidders: int, items: int, entries: int, start: float, generator: Generator) -> None:
        self.bidders, self.items = bidders, items
        count = (bidders + 1) ** items
        if entries == 0 and count > MAX_ENUMERATED:
            raise ValueError(f"{count} deterministic allocations, at most {MAX_ENUMERATED}: give a menu size")
        if count <= MAX_ENUMERATED and (entries == 0 or entries >= count):
            owners = torch.tensor(list(product(range(bidders + 1), repeat=items)))  # owner `bidders` is nobody
            logits = torch.zeros(len(owners), bidders + 1, items)
            logits.scatter_(1, owners[:, None, :], start)
            extra = entries - len(owners) if entries else 0
            if extra > 0:
                more = torch.randn(extra, bidders + 1, items, generator=generator) * start
                logits = torch.cat([logits, more])
        else:
            logits = torch.randn(entries, bidders + 1, items, generator=generator) * start
        self.logits = logits
        self.boosts = torch.zeros(len(logits))

    def parameters(self) -> dict[str, Tensor]:
        """Return the trained tensors by name; the loop updates them in place."""
        return {"logits": self.logits, "boosts": self.boosts}

    def gradients(
        self, values: Float[Tensor, "batch bidders items"], temperature: float
    ) -> tuple[dict[str, Tensor], float]:
        """Return the gradient of the negative surrogate revenue by parameter, and the surrogate revenue.

        With W = l + sum_i v_i A_i, W_-i = W - v_i A_i and inverse temperature T, the surrogate is
        sum_i (1/T) lse_k(T W_-i(k)) - sum_k P_k ((n-1) W(k) + l(k)), P = softmax(T W) (AMA-5).
        """
        shares = torch.softmax(self.logits, dim=1)  # (S, n+1, m)
        menu = shares[:, : self.bidders, :]
        empty = torch.zeros(1, self.bidders, self.items)
        full = torch.cat([menu, empty])  # the empty allocation stays in every menu: IR by opting out
        boosts = torch.cat([self.boosts, torch.zeros(1)])
        size = len(boosts)
        menu_gradient = torch.zeros(size, self.bidders, self.items)
        boost_gradient = torch.zeros(size)
        total = 0.0
        chunk = max(128, (1 << 20) // size)
        for part in torch.split(values.to(torch.float32), chunk):
            total += self._accumulate(part, full, boosts, temperature, menu_gradient, boost_gradient)
        count = len(values)
        inner = menu_gradient[:-1] / count
        # through the softmax over bidders and nobody: dL/dz = s (g - <s, g>)
        padded = torch.cat([inner, torch.zeros(size - 1, 1, self.items)], dim=1)
        logits_gradient = shares * (padded - (shares * padded).sum(1, keepdim=True))
        return {"logits": -logits_gradient, "boosts": -boost_gradient[:-1] / count}, total / count

    def _accumulate(
        self,
        values: Tensor,
        menu: Tensor,
        boosts: Tensor,
        temperature: float,
        menu_gradient: Tensor,
        boost_gradient: Tensor,
    ) -> float:
        n = self.bidders
        own = [values[:, i] @ menu[:, i].T for i in range(n)]  # v_i A_i, (batch, S)
        welfare = boosts + torch.stack(own).sum(0)
        chosen = torch.softmax(temperature * welfare, dim=1)
        paid = (n - 1) * welfare + boosts
        expected = (chosen * paid).sum(1, keepdim=True)
        pull = chosen * (temperature * (paid - expected) + (n - 1))  # d E_P[R] / dW
        rivals = []
        surrogate = -float(expected.sum())
        for i in range(n):
            scaled = temperature * (welfare - own[i])
            largest = scaled.amax(1, keepdim=True)
            exponentials = torch.exp(scaled - largest)
            normaliser = exponentials.sum(1, keepdim=True)
            rivals.append(exponentials / normaliser)
            surrogate += float(((largest + torch.log(normaliser)) / temperature).sum())
        spread = torch.stack(rivals).sum(0) - pull
        boost_gradient += spread.sum(0) - chosen.sum(0)
        for j in range(n):
            menu_gradient[:, j] += (spread - rivals[j]).T @ values[:, j]
        return surrogate

    def mechanism(self, scale: float = 1.0) -> AffineMaximizer:
        """Return the hard mechanism, float64, boosts in units of value.

        Args:
            scale: Training worked on values over this.
        """
        shares = torch.softmax(self.logits.double(), dim=1)[:, : self.bidders, :]
        menu = torch.cat([shares, torch.zeros(1, self.bidders, self.items, dtype=torch.float64)])
        boosts = torch.cat([self.boosts.double(), torch.zeros(1, dtype=torch.float64)]) * scale
        return AffineMaximizer(menu=menu, boosts=boosts, weights=torch.ones(self.bidders, dtype=torch.float64))
