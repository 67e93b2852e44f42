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

CHUNK: Final = 1 << 18  # entries times profiles that are worked on together: what the nearer caches hold
CHUNK_CUDA: Final = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class Pull:
    """How the surrogate revenue, summed over a batch, pulls at the welfare of the entries.

    Attributes:
        revenue: Surrogate revenue summed over the batch.
        chosen: P, the softened choice.
        rivals: By bidder, Q_i, the softened choice of the others.
        entry: sum_i r_i Q_i - P (T (R - E_P R) + sum_i r_i): the derivative by an entry's boost; r_i is 1/w_i.
    """

    revenue: Float[Tensor, " starts"]
    chosen: Float[Tensor, "batch starts menu"]
    rivals: list[Float[Tensor, "batch starts menu"]]
    entry: Float[Tensor, "batch starts menu"]


def pull(
    welfare: Float[Tensor, "batch starts menu"],
    without: Sequence[Float[Tensor, "batch starts menu"]],
    paid: Float[Tensor, "batch starts menu"],
    temperature: float | Tensor,
    rates: Float[Tensor, "starts bidders"] | None = None,
    room: Sequence[Tensor] | None = None,
    *,
    measured: bool = True,
) -> Pull:
    """Return the pull of the surrogate sum_i r_i (1/T) lse(T W_-i) - E_P R with P = softmax(T W).

    Args:
        welfare: T W, affine welfare with everybody times the temperature, by entry.
        without: T W_-i by bidder, the best without its weighted value.
        paid: T R, what is subtracted where an entry is chosen, R = sum_i r_i W_-i; overwritten.
        temperature: T, inverse temperature per unit of welfare.
        rates: r_i = 1/w_i; 1 for everybody if left out.
        room: Tensors of the same shape to write into, two more than bidders; the result then lives in them.
        measured: Whether the revenue is worked out, which no derivative needs; else it is zero.
    """
    outs: Sequence[Tensor | None] = room or [None] * (len(without) + 2)
    spare, top, *rest = outs
    chosen = torch.softmax(welfare, dim=-1, out=top)
    expected = torch.mul(chosen, paid, out=spare).sum(-1, keepdim=True)
    counted = len(without) if rates is None else rates.sum(-1)[:, None]
    lost = paid.sub_(expected - counted).mul_(chosen)
    rivals = [torch.softmax(rival, dim=-1, out=out) for rival, out in zip(without, rest, strict=True)]
    if rates is None:
        entry = torch.sub(rivals[0], lost, out=lost)
        for softened in rivals[1:]:
            entry.add_(softened)
    else:
        entry = lost.neg_()
        for i, softened in enumerate(rivals):
            entry.addcmul_(softened, rates[:, i, None])
    if not measured:
        return Pull(expected.new_zeros(expected.shape[1]), chosen, rivals, entry)
    # softmax is several times faster than exp where most exponents are far below zero; lse = max - log max softmax
    best = torch.stack([rival.amax(-1) - soft.amax(-1).log() for rival, soft in zip(without, rivals, strict=True)])
    revenue = (best.sum(1) if rates is None else best.sum(1) * rates.T).sum(0)
    return Pull((revenue - expected.sum((0, 2))) / temperature, chosen, rivals, entry)


@dataclass(frozen=True, slots=True, eq=False)
class MenuSlopes:
    """Mean surrogate revenue of a batch, and its derivatives by what a menu mechanism is made of.

    Attributes:
        revenue: Mean surrogate revenue of each start on the first part of the batch, all of it if it is small.
        menu: Derivative by the shares.
        boosts: Derivative by the boosts.
        weights: Derivative by the weights; none where they are 1.
    """

    revenue: Float[Tensor, " starts"]
    menu: Float[Tensor, "starts menu bidders items"]
    boosts: Float[Tensor, "starts menu"]
    weights: Float[Tensor, "starts bidders"] | None


def menu_slopes(
    profiles: Float[Tensor, "batch bidders items"],
    menu: Float[Tensor, "starts menu bidders items"],
    boosts: Float[Tensor, "starts menu"],
    temperature: float | Tensor,
    weights: Float[Tensor, "starts bidders"] | None = None,
) -> MenuSlopes:
    """Return surrogate revenue and its derivatives for menus that end with the empty allocation (AMA-5, AMA-6).

    The entries of all starts lie side by side in one matrix, so each step is one product of rank `items`; the batch
    goes through in parts that the caches hold.
    """
    starts, entries, bidders, items = menu.shape
    # by bidder: items x (starts, menu); products with anything but rows of entries in memory are several times slower
    columns = (temperature * menu).permute(2, 3, 0, 1).reshape(bidders, items, -1).contiguous()
    warm = temperature * boosts  # everything is worked on times the temperature, which saves passes
    if weights is not None:
        columns = columns * weights.T.repeat_interleave(entries, dim=1)[:, None]
    rates = None if weights is None else 1 / weights
    menu_slope = torch.zeros_like(columns)
    boost_slope = torch.zeros_like(boosts)
    product = torch.empty_like(columns[0])
    rate_slope = boosts.new_zeros(starts, bidders)
    total, measured = boosts.new_zeros(starts), 0
    rows = min(len(profiles), max(16, (CHUNK_CUDA if profiles.is_cuda else CHUNK) // boosts.numel()))
    # one set of buffers for all parts: fresh pages for every part would cost as much as the arithmetic
    buffers = [boosts.new_empty(rows, starts, entries) for _ in range(2 * bidders + 4)]
    for part in torch.split(profiles, rows):
        by_bidder, by_item = part.transpose(0, 1).contiguous(), part.permute(1, 2, 0).contiguous()
        welfare, paid, *room = [buffer[: len(part)] for buffer in buffers]
        own = [room.pop() for _ in range(bidders)]  # T w_i v_i A_i
        for i, value in enumerate(own):
            torch.mm(by_bidder[i], columns[i], out=value.view(len(part), -1))
        torch.add(own[0], warm, out=welfare)
        for value in own[1:]:
            welfare.add_(value)
        without = [torch.sub(welfare, value, out=value) for value in own]
        if rates is None:
            torch.add(warm, welfare, alpha=bidders - 1, out=paid)
        else:
            paid.zero_()
            for i, value in enumerate(without):
                paid.addcmul_(value, rates[:, i, None])
        result = pull(welfare, without, paid, temperature, rates, room, measured=measured == 0)
        if measured == 0:
            total, measured = result.revenue, len(part)
        boost_slope += result.entry.sum(0)
        if rates is None:
            common = result.entry.add_(result.chosen)
            each = [torch.sub(common, rival, out=rival) for rival in result.rivals]
        else:
            each = []
            for i, rival in enumerate(result.rivals):
                # d revenue / d r_i = lse_i - E_P W_-i; lse(x) = max - log max softmax
                best = without[i].amax(-1) - rival.amax(-1).log()
                rate_slope[:, i] += (best - (result.chosen * without[i]).sum(-1)).sum(0) / temperature
                each.append(torch.addcmul(result.entry, result.chosen - rival, rates[:, i, None]))
        for i, slope in enumerate(each):
            # many times faster than addmm with a transpose
            menu_slope[i] += torch.mm(by_item[i], slope.view(len(part), -1), out=product)
    count = len(profiles)
    by_entry = menu_slope.view(bidders, items, starts, entries).permute(2, 3, 0, 1)
    weight_slope = None
    if weights is not None:
        # a weight scales its bidder's welfare and divides its payment
        scaled = (by_entry * menu).sum((1, 3))
        weight_slope = (scaled - rate_slope / weights**2) / count
        by_entry = by_entry * weights[:, None, :, None]
    return MenuSlopes(total / measured, by_entry / count, boost_slope / count, weight_slope)


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
