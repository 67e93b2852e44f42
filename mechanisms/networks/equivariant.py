"""Networks that treat bidders and items alike: exchangeable layers (NET-10) and attention (NET-11).

Sources: EquivariantNet, Rahme, Jelassi, Bruna, Weinberg 2021, with the layers of Hartford et al. 2018; RegretFormer,
Ivanov, Safiulin, Filippov, Balabaeva 2022. Swapping two bidders, or two items, swaps their outcomes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import scaled_dot_product_attention

from mechanisms.networks.layers import initial_layers
from mechanisms.networks.network import Network
from mechanisms.networks.regret_net import RegretNet

HEADS: Final = 2
# of each bidder and item: its logit, a part of nobody's logit, a part of the payment's; for unit demand also the logit
# of wanting it, a part of that of wanting none
OUTPUTS: Final = {"additive": 3, "unit": 5}

Signal = Tensor  # (starts, batch, bidders, items, channels); means have 1 where they were taken


def equivariant_layers(
    starts: int, *, width: int, depth: int, demand: str = "additive", generator: Generator
) -> dict[str, Tensor]:
    """Return the first weights of `depth` exchangeable layers: of the entry, its row's, column's and table's means."""
    layers: dict[str, Tensor] = {}
    for index, (inputs, outputs) in enumerate(pairwise([1, *[width] * depth, OUTPUTS[demand]])):
        layers |= initial_layers(f"exchange_{index}", starts, [4 * inputs, outputs], generator)
    return layers


def attention_layers(
    starts: int, *, width: int, depth: int, demand: str = "additive", generator: Generator
) -> dict[str, Tensor]:
    """Return the first weights of an exchangeable layer, `depth` layers of attention in both directions, and a head.

    Raises:
        ValueError: If the width is not a multiple of the heads.
    """
    if width % HEADS:
        raise ValueError(f"width {width}, wanted a multiple of {HEADS}")
    layers = initial_layers("exchange_0", starts, [4, width], generator)
    for index in range(depth):
        for side in ("rivals", "items"):
            layers |= initial_layers(f"{side}_{index}", starts, [width, 3 * width], generator)
        layers |= initial_layers(f"mix_{index}", starts, [2 * width, width], generator)
    return layers | initial_layers("head", starts, [width, OUTPUTS[demand]], generator)


def equivariant_outcome(
    layers: Mapping[str, Tensor], bids: Float[Tensor, "starts batch bidders items"]
) -> tuple[Float[Tensor, "starts batch bidders items"], Float[Tensor, "starts batch bidders"]]:
    """Return allocation and payments, with their autograd graph (NET-10)."""
    signal, index = bids[..., None], 0
    while f"exchange_{index}_0" in layers:
        if index:
            signal = torch.tanh(signal)
        signal = _exchange(layers, f"exchange_{index}", signal)
        index += 1
    return _decide(signal, bids)


def attention_outcome(
    layers: Mapping[str, Tensor], bids: Float[Tensor, "starts batch bidders items"]
) -> tuple[Float[Tensor, "starts batch bidders items"], Float[Tensor, "starts batch bidders"]]:
    """Return allocation and payments, with their autograd graph (NET-11)."""
    signal = torch.tanh(_exchange(layers, "exchange_0", bids[..., None]))
    index = 0
    while f"mix_{index}_0" in layers:
        rivals = _attend(layers, f"rivals_{index}", signal.transpose(2, 3)).transpose(2, 3)
        items = _attend(layers, f"items_{index}", signal)
        signal = signal + torch.tanh(_dense(layers, f"mix_{index}", torch.cat([rivals, items], dim=4)))
        index += 1
    return _decide(_dense(layers, "head", signal), bids)


def _dense(layers: Mapping[str, Tensor], name: str, signal: Signal) -> Signal:
    flat = torch.baddbmm(layers[f"{name}_0_bias"], signal.flatten(1, 3), layers[f"{name}_0"])
    return flat.view(*signal.shape[:4], -1)


def _exchange(layers: Mapping[str, Tensor], name: str, signal: Signal) -> Signal:
    parts = layers[f"{name}_0"].chunk(4, dim=1)
    means = [signal.mean(2, keepdim=True), signal.mean(3, keepdim=True), signal.mean((2, 3), keepdim=True)]
    result = _apply(parts[0], signal) + layers[f"{name}_0_bias"][:, None, None]
    for part, mean in zip(parts[1:], means, strict=True):
        result = result + _apply(part, mean)
    return result


def _apply(weights: Tensor, signal: Signal) -> Signal:
    return torch.bmm(signal.flatten(1, 3), weights).view(*signal.shape[:4], -1)


def _attend(layers: Mapping[str, Tensor], name: str, signal: Signal) -> Signal:
    """Attend along the fourth dimension."""
    queries = _dense(layers, name, signal)
    heads = queries.view(*signal.shape[:4], 3, HEADS, -1).permute(4, 0, 1, 2, 5, 3, 6)
    return scaled_dot_product_attention(heads[0], heads[1], heads[2]).transpose(3, 4).flatten(4)


def _decide(signal: Signal, bids: Float[Tensor, "starts batch bidders items"]) -> tuple[Tensor, Tensor]:
    nobody = signal[..., 1].mean(2, keepdim=True)
    allocation = torch.softmax(torch.cat([signal[..., 0], nobody], dim=2), dim=2)[:, :, :-1]
    if signal.shape[-1] == OUTPUTS["unit"]:
        none = signal[..., 4].mean(3, keepdim=True)
        allocation = torch.minimum(allocation, torch.softmax(torch.cat([signal[..., 3], none], dim=3), dim=3)[..., :-1])
    part = torch.sigmoid(signal[..., 2].mean(3))
    return allocation, part * (allocation * bids).sum(3)


@final
@dataclass(frozen=True, slots=True, eq=False)
class EquivariantNet(Network):
    """One trained network of exchangeable layers."""

    @staticmethod
    def rule(layers: Mapping[str, Tensor], bids: Float[Tensor, "starts batch bidders items"]) -> tuple[Tensor, Tensor]:
        """Return allocation and payments of bids over the scale."""
        return equivariant_outcome(layers, bids)

    def dense(self) -> RegretNet:
        """Return the same auction as a RegretNet whose weights are float64 (NET-10).

        A mean is linear, so an exchangeable layer of c channels is an ordinary one of n m c neurons, and both heads are
        linear in its last. What is known of RegretNet then holds: its exact form (NET-8), certified bounds (EVAL-5).
        """
        n, m = self.bidders, self.items
        *hidden, (matrix, bias) = self._spelled_out()
        heads: dict[str, list[Tensor]] = {}
        for last in (matrix.view(-1, n, m, matrix.shape[1] // (n * m)), bias.view(1, n, m, -1)):
            nobody = last[..., 1].mean(1, keepdim=True)
            heads.setdefault("allot", []).append(torch.cat([last[..., 0], nobody], dim=1).flatten(1))
            heads.setdefault("pay", []).append(last[..., 2].mean(2))
            if last.shape[-1] == OUTPUTS["unit"]:
                none = last[..., 4].mean(2, keepdim=True)
                heads.setdefault("want", []).append(torch.cat([last[..., 3], none], dim=2).flatten(1))
        dense: dict[str, Tensor] = {}
        for tower, head in heads.items():
            for index, (weights, offset) in enumerate([*hidden, head]):
                dense[f"{tower}_{index}"], dense[f"{tower}_{index}_bias"] = weights, offset
        return RegretNet({name: tensor[None] for name, tensor in dense.items()}, n, m, self.scale)

    def _spelled_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each layer's matrix (inputs, outputs) and bias (1, outputs), its neurons by bidder, item, channel."""
        n, m = self.bidders, self.items
        same_bidder, same_item = torch.eye(n, dtype=torch.float64), torch.eye(m, dtype=torch.float64)
        any_bidder, any_item = torch.ones_like(same_bidder) / n, torch.ones_like(same_item) / m
        index = 0
        while f"exchange_{index}_0" in self.layers:
            entry, over_bidders, over_items, over_all = self.layers[f"exchange_{index}_0"][0].double().chunk(4)
            matrix = sum(
                torch.kron(torch.kron(bidders, items), part)
                for bidders, items, part in (
                    (same_bidder, same_item, entry),
                    (any_bidder, same_item, over_bidders),
                    (same_bidder, any_item, over_items),
                    (any_bidder, any_item, over_all),
                )
            )
            bias = self.layers[f"exchange_{index}_0_bias"][0].double()
            yield torch.as_tensor(matrix), bias.repeat(1, n * m)
            index += 1


@final
@dataclass(frozen=True, slots=True, eq=False)
class RegretFormer(Network):
    """One trained network with attention over bidders and over items."""

    @staticmethod
    def rule(layers: Mapping[str, Tensor], bids: Float[Tensor, "starts batch bidders items"]) -> tuple[Tensor, Tensor]:
        """Return allocation and payments of bids over the scale."""
        return attention_outcome(layers, bids)
