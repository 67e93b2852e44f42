"""The smooth revenue of an affine maximizer and its gradient, written out (AMA-5, AMA-6).

The leave-one-out welfare enters by log-sum-exp, a true upper envelope whose gradient is a probability vector; only the
winning allocation is softened by the temperature's softmax. Other surrogates go through autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK: Final = 1 << 16  # entries times profiles that are worked on together: what the nearer caches hold


@dataclass(frozen=True, slots=True, eq=False)
class Pull:
    """How the surrogate revenue, summed over a batch, pulls at the welfare of the entries.

    Attributes:
        revenue: Surrogate revenue summed over the batch.
        chosen: P, the softened choice.
        rivals: By bidder, Q_i, the softened choice of the others.
        entry: sum_i Q_i - P (T (R - E_P R) + n): the derivative by an entry's boost.
    """

    revenue: Float[Tensor, " starts"]
    chosen: Float[Tensor, "starts batch menu"]
    rivals: list[Float[Tensor, "starts batch menu"]]
    entry: Float[Tensor, "starts batch menu"]


def pull(
    welfare: Float[Tensor, "starts batch menu"],
    without: Sequence[Float[Tensor, "starts batch menu"]],
    paid: Float[Tensor, "starts batch menu"],
    temperature: float,
) -> Pull:
    """Return the pull of the surrogate sum_i (1/T) lse(T W_-i) - E_P R with P = softmax(T W).

    Args:
        welfare: W, affine welfare with everybody, by entry.
        without: W_-i by bidder, the best without its weighted value; overwritten.
        paid: R, what is subtracted where an entry is chosen: sum_i of the others' welfare in it; overwritten.
        temperature: T, inverse temperature per unit of welfare.
    """
    chosen = torch.softmax(temperature * welfare, dim=-1)
    expected = (chosen * paid).sum(-1, keepdim=True)
    excess = paid.sub_(expected)
    entry = excess.mul_(temperature).add_(len(without)).mul_(chosen).neg_()
    rivals = []
    revenue = -expected.sum((-2, -1))
    for rival in without:
        scaled = rival.mul_(temperature)
        # softmax is several times faster than exp where most exponents are far below zero; lse = max - log max softmax
        softened = torch.softmax(scaled, dim=-1)
        revenue += (scaled.amax(-1) - softened.amax(-1).log()).sum(-1) / temperature
        rivals.append(softened)
        entry.add_(softened)
    return Pull(revenue, chosen, rivals, entry)


def autograd(
    parameters: Mapping[str, Tensor], surrogate: Callable[[], Float[Tensor, " starts"]]
) -> tuple[dict[str, Tensor], Float[Tensor, " starts"]]:
    """Return the gradient of the negative surrogate by parameter, and the surrogate, where no gradient is written out.

    Args:
        parameters: The trained tensors; they carry no graph before or after.
        surrogate: Computes the surrogate revenue of each start from them.
    """
    with torch.enable_grad():
        for tensor in parameters.values():
            tensor.requires_grad_(True)
        revenue = surrogate()
        slopes = torch.autograd.grad(-revenue.sum(), list(parameters.values()))
    for tensor in parameters.values():
        tensor.requires_grad_(False)
    return dict(zip(parameters, slopes, strict=True)), revenue.detach()
