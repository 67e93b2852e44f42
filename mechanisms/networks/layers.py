"""Perceptrons as plain tensors, several side by side: the first dimension counts them (NET-1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Generator, Tensor


def initial_layers(
    name: str, starts: int, widths: list[int], generator: Generator | None, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Return weights and biases of perceptrons, by names `name_0`, `name_0_bias`, ...

    Weights are normal with variance 1/inputs, biases zero.

    Args:
        name: Prefix of the names.
        starts: How many side by side.
        widths: Inputs, hidden widths, outputs.
        generator: Draws the weights; the device's own if None.
        device: Where the tensors live.
    """
    layers: dict[str, Tensor] = {}
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        drawn = torch.randn(starts, inputs, outputs, generator=generator, device=device)
        layers[f"{name}_{index}"] = drawn / inputs**0.5
        layers[f"{name}_{index}_bias"] = torch.zeros(starts, 1, outputs, device=device)
    return layers


def perceptron(
    layers: Mapping[str, Tensor],
    name: str,
    inputs: Float[Tensor, "starts batch inputs"],
    activation: Callable[[Tensor], Tensor] = torch.tanh,
) -> Float[Tensor, "starts batch outputs"]:
    """Return the output of the perceptrons `name`, with the activation between their layers."""
    signal, index = inputs, 0
    while f"{name}_{index}" in layers:
        if index:
            signal = activation(signal)
        signal = torch.baddbmm(layers[f"{name}_{index}_bias"], signal, layers[f"{name}_{index}"])
        index += 1
    return signal
