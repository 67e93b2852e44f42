"""The surrogate as the papers print it, by eager autograd: what ours is measured against (AMA-8)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mechanisms.training.lottery_ama import LotteryAMA
from mechanisms.training.surrogate import autograd


class TextbookAMA(LotteryAMA):
    """A free menu trained on softmax-weighted welfare, for the winner and for every leave-one-out alike.

    Source: lottery-ama, section 4; ca-ama, appendix D, algorithm 1.
    """

    def soft_outcome(
        self, drawn: Float[Tensor, "batch bidders items"], temperature: float | Tensor
    ) -> tuple[Float[Tensor, "starts batch bidders"], Float[Tensor, "starts batch bidders"]]:
        """Return softened utilities and payments as printed (ca-ama, equation 3), with their autograd graph."""
        own, boosts = self._own_values(drawn)
        welfare = own.sum(0) + boosts
        without = welfare - own
        chosen = torch.softmax(temperature * welfare, dim=-1)
        best = (torch.softmax(temperature * without, dim=-1) * without).sum(-1)
        payment = best - (chosen * without).sum(-1)
        value = (chosen * own).sum(-1)
        return (value - payment).permute(2, 1, 0), payment.permute(2, 1, 0)

    def gradients(
        self, drawn: Float[Tensor, "batch bidders items"], temperature: float | Tensor, progress: float | Tensor = 0.0
    ) -> tuple[dict[str, Tensor], Float[Tensor, " starts"]]:
        """Return the gradient of the negative surrogate revenue by parameter, and the surrogate of each start."""

        def surrogate() -> Tensor:
            shares = self._menu(self.logits, self.choices)
            each = []
            for start in range(self.starts):
                menu = torch.cat([shares[start], self.logits.new_zeros(1, self.bidders, self.items)])
                boosts = torch.cat([self.boosts[start], self.boosts.new_zeros(1)])
                weighted = torch.einsum("bni,kni->bkn", drawn, menu)
                welfare = weighted.sum(-1) + boosts
                without = welfare.unsqueeze(-1) - weighted
                chosen = torch.softmax(temperature * welfare, dim=1).unsqueeze(-1)
                best = (torch.softmax(temperature * without, dim=1) * without).sum(1)
                each.append((best - (chosen * without).sum(1)).sum(-1).mean())
            return torch.stack(each)

        return autograd(self.parameters(), surrogate)
