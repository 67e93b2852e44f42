"""Correlation-aware payments trained as ca-ama prints it: a penalty on the bidders' losses, two stages (FEE-5)."""

from __future__ import annotations

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mechanisms.training.fee import Base, FeeAMA

HARD: Final = 1e6  # an inverse temperature at which a softmax of float32 is the choice itself


class CorrelationAwareAMA(FeeAMA):
    """An affine maximizer with rival-only fees, trained as if nobody could refuse them; the mean loss nears a target.

    Mutual training moves everything on softened outcomes; post-training moves the fees only, on exact ones. In both the
    loss is -revenue + gamma times the sum of the bidders' losses; after every step gamma moves by `step` times the log
    of that sum over `target`, within [1, `most`]. In post-training the menu has no gradient; what momentum is left
    of Adam moves it for some fifty steps more. The mechanism has the opt-out; the paper also prints figures without.

    Source: ca-ama, section 4, equations 1 and 2, algorithm 1.

    Args:
        base: As in `FeeAMA`, like the next three.
        generator: See there.
        hidden: See there.
        shared: See there.
        gamma: First gamma.
        step: See above.
        most: Largest gamma.
        target: Mean of the sum of losses to steer to, over the scale of the values.
        mutual: Share of the training that is mutual.
    """

    def __init__(
        self,
        base: Base,
        generator: Generator,
        *,
        hidden: int = 64,
        shared: bool = True,
        gamma: float = 3.0,
        step: float = 0.01,
        most: float = 20.0,
        target: float = 0.001,
        mutual: float = 0.5,
    ) -> None:
        if target <= 0:
            raise ValueError(f"the target of the mean loss is {target}, wanted above 0")
        super().__init__(base, generator, hidden=hidden, shared=shared)
        self.step, self.most, self.target, self.mutual = step, most, target, mutual
        self.gamma = torch.full((base.starts,), gamma)

    def parameters(self) -> dict[str, Tensor]:
        """Return the tensors by name: those of a fee, and gamma, which the steps move but no gradient."""
        return {**super().parameters(), "gamma": self.gamma}

    def _surrogate(
        self, profiles: Tensor, numbers: Tensor, temperature: float | Tensor, progress: float | Tensor
    ) -> Float[Tensor, " starts"]:
        fee = self._fees(profiles)
        with torch.no_grad():
            exact = self.base.soft_outcome(numbers, HARD)
        done = torch.as_tensor(progress, device=fee.device)
        utility, payment = (
            torch.where(done < self.mutual, one, other)
            for one, other in zip(self.base.soft_outcome(numbers, temperature), exact, strict=True)
        )
        lost = torch.relu(fee - utility).sum(-1).mean(-1)
        earned = (payment + fee).sum(-1).mean(-1) - self.gamma.clone() * lost
        with torch.no_grad():
            moved = self.gamma + self.step * (lost.log() - math.log(self.target))
            self.gamma.copy_(moved.clamp(1.0, self.most))
        return earned
