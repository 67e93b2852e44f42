"""What theory says of rival-only fees (ca-ama, section 4.2 and appendix C)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mechanisms.affine.fee import FeeNetwork
from mechanisms.outcome import Mechanism, revenue, utilities


def largest_fees(
    mechanism: Mechanism, support: Float[Tensor, "support bidders items"]
) -> Float[Tensor, "support bidders"]:
    """Return the largest fee of each bidder at each profile of a finite support at which nobody ever loses.

    It is the least utility over the profiles of the support with the same rivals' rows, so no own report moves it.
    Source: ca-ama, section 4.2, p_i^OPT-core.

    Args:
        mechanism: A truthful mechanism without fees.
        support: Every profile that can occur.
    """
    earned = utilities(mechanism.run(support), support)
    fees = torch.empty_like(earned)
    for bidder in range(mechanism.bidders):
        rivals = torch.cat([support[:, :bidder], support[:, bidder + 1 :]], dim=1).flatten(1)
        _, group = torch.unique(rivals, dim=0, return_inverse=True)
        least = earned.new_full((int(group.max()) + 1,), torch.inf)
        fees[:, bidder] = least.scatter_reduce(0, group, earned[:, bidder], "amin")[group]
    return fees


def revenue_with_largest_fees(
    mechanism: Mechanism, support: Float[Tensor, "support bidders items"], probabilities: Float[Tensor, " support"]
) -> float:
    """Return the mean revenue of a mechanism with its largest fees, in units of value."""
    paid = revenue(mechanism.run(support)) + largest_fees(mechanism, support).sum(1)
    return float((probabilities * paid).sum())


def fee_lipschitz(weights: Float[Tensor, " bidders"], bidder: int, hausdorff: float) -> float:
    """Return a constant L such that the largest fee moves by at most L times the L1 move of the rivals' values.

    2 max(w) / w_i (C_H + 1), where C_H bounds the L1 Hausdorff distance of a bidder's conditional supports per unit of
    the rivals' L1 distance. Source: ca-ama, theorem 4.1.

    Args:
        weights: Of the affine maximizer.
        bidder: Whose fee.
        hausdorff: C_H.
    """
    return 2 * float(weights.max() / weights[bidder]) * (hausdorff + 1)


@dataclass(frozen=True, slots=True)
class LossBound:
    """How far the mean sum of losses on a sample can lie from the expected one, with some confidence.

    Attributes:
        fee: B_p, the most a fee can be by its spectral norms.
        capacity: Term that holds for all networks of these norms at once.
        confidence: Term of a fixed network.
        uniform: Bound for every network at once whose norms are at most those stated: their sum.
        fixed: Bound for a network that was fixed before the sample was drawn: the confidence term alone.
    """

    fee: float
    capacity: float
    confidence: float

    @property
    def uniform(self) -> float:
        """Theorem C.1."""
        return self.capacity + self.confidence

    @property
    def fixed(self) -> float:
        """Remark C.2."""
        return self.confidence


def loss_bound(
    network: FeeNetwork, items: int, samples: int, delta: float, norms: tuple[float, float, float] | None = None
) -> LossBound:
    """Return the bounds of theorem C.1 and remark C.2 for a network, in its units of value.

    The theorem fixes the largest spectral norms before the sample is drawn. For a network that the sample has chosen,
    state norms that training kept to; left out, they are the network's own, and only `fixed` is a statement about it.

    The theorem is for networks without biases; a bias is a weight of an input that is always 1, so each layer becomes
    [[W, 0], [b, 1]] and the input one longer. Values must lie in [0, scale].

    Args:
        network: The fees.
        items: Number of items m.
        samples: K, profiles of the sample.
        delta: Chance that the bound fails.
        norms: M_1, M_2, M_3, the largest spectral norms of the layers, biases included.

    Raises:
        ValueError: If there is no sample, delta is no chance, or a layer exceeds its stated norm.
    """
    if samples < 1 or not 0 < delta < 1:
        raise ValueError(f"{samples} samples and delta {delta}, wanted at least 1 and a number between 0 and 1")
    bidders, inputs, hidden = network.first.shape
    if inputs != (bidders - 1) * items:
        raise ValueError(f"the network has {inputs} inputs, wanted {(bidders - 1) * items}")
    most = 0.0
    for i in range(bidders):
        layers = (
            _with_bias(network.first[i], network.first_bias[i]),
            _with_bias(network.second[i], network.second_bias[i]),
            torch.cat([network.third[i], network.third_bias[i : i + 1]])[:, None],
        )
        found = [float(torch.linalg.matrix_norm(layer, 2)) for layer in layers]
        if norms is not None and any(one > stated for one, stated in zip(found, norms, strict=True)):
            raise ValueError(f"the layers of bidder {i + 1} have norms {found}, stated {list(norms)}")
        most = max(most, math.prod(norms or found))
    fee = math.sqrt(inputs + 1) * most * network.scale
    widest = max(inputs + 1, hidden + 1)
    return LossBound(
        fee=fee,
        capacity=2 * bidders * fee * math.sqrt(2 * math.log(2 * widest) / samples),
        confidence=bidders * fee * math.sqrt(math.log(2 / delta) / (2 * samples)),
    )


def _with_bias(weights: Float[Tensor, "inputs outputs"], bias: Float[Tensor, " outputs"]) -> Tensor:
    """Return a layer that keeps a last input of 1 and takes its bias from it."""
    inputs, outputs = weights.shape
    whole = weights.new_zeros(inputs + 1, outputs + 1)
    whole[:inputs, :outputs], whole[inputs, :outputs], whole[inputs, outputs] = weights, bias, 1.0
    return whole
