"""Evaluating exact artifacts in integers: every figure but the mean is exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from protocol.artifact.engine import Engine
from torch import Tensor

from mechanisms.evaluation.measures import EXACT_ZERO, SCALES, SEARCHED, Evaluation
from mechanisms.outcome import Outcome


def _present(reports: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return who counts as present: those who bid anything above zero (AGG-4)."""
    return np.asarray((reports > 0).any(axis=2), dtype=np.int64)


def _gain(
    engine: Engine, values: npt.NDArray[np.int64], reports: npt.NDArray[np.int64], present: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return utilities in fine units at true `values` when `reports` are submitted, shape (batch, bidders)."""
    arrays = engine.run_arrays(reports, present)
    gains: npt.NDArray[np.int64] = (arrays["allocation"] * values).sum(axis=2) - arrays["payment"]
    return gains


def evaluate_exact(
    engine: Engine,
    bids: npt.NDArray[np.int64],
    *,
    unit: Fraction,
    certified: bool,
    seed: int,
    searched: int = 1000,
    draws: int = 20,
) -> Evaluation:
    """Evaluate an artifact on truthful integer bids.

    Args:
        engine: The artifact.
        bids: Truthful bids on its grid, shape (batch, bidders, items), within 0..bid_max.
        unit: Value of one grid unit.
        certified: Whether its class's certificate holds; regret is then exactly zero by theorem.
        seed: Decides the misreports.
        searched: Profiles of the misreport search, in integers.
        draws: Random misreports per profile and bidder, other bidders' bids of other profiles.
    """
    header = engine.artifact.header
    fine = float(unit / header.unit_share)
    arrays = engine.run_arrays(bids, _present(bids))
    paid = arrays["payment"].sum(axis=1).astype(np.float64) * fine
    worth = (arrays["allocation"] * bids).sum(axis=2)
    source = np.random.default_rng(seed)
    profiles = bids[:searched]
    truthful = _gain(engine, profiles, profiles, _present(profiles))
    best = np.zeros_like(truthful)
    for bidder in range(header.bidders):
        own = profiles[:, bidder]
        reports = [np.clip(np.rint(own * scale), 0, header.bid_max).astype(np.int64) for scale in SCALES]
        reports += [bids[source.integers(0, len(bids), len(profiles)), bidder] for _ in range(draws)]
        for report in reports:
            misreport = profiles.copy()
            misreport[:, bidder] = report
            # who bids nothing may stay away or be present all the same, which an aggregated auction tells apart
            silent = ~report.any(axis=1)
            for attending in (False, True) if silent.any() else (False,):
                seen = _present(misreport)
                seen[silent, bidder] = attending
                gain = _gain(engine, profiles, misreport, seen)[:, bidder] - truthful[:, bidder]
                best[:, bidder] = np.maximum(best[:, bidder], gain)
    found = float(best.mean(axis=0).max()) * fine
    above = int((arrays["allocation"].sum(axis=1) - header.unit_share).max())
    return Evaluation(
        revenue=float(paid.mean()),
        revenue_se=float(paid.std(ddof=1)) / math.sqrt(len(paid)) if len(paid) > 1 else 0.0,
        regret=0.0 if certified else found,
        regret_kind=EXACT_ZERO if certified else SEARCHED,
        regret_search=f"{len(SCALES)} scalings and {draws} draws on {len(profiles)} profiles, in integers, absence too",
        regret_found=found,
        ir_violation=max(int((arrays["payment"] - worth).max()), 0) * fine,
        ir_loss=float(np.maximum(arrays["payment"] - worth, 0).sum(axis=1).mean()) * fine,
        overallocation=max(above, 0) / header.unit_share,
        welfare=float(worth.sum(axis=1).mean()) * fine,
        samples=len(bids),
    )


@final
@dataclass(frozen=True, slots=True, eq=False)
class ExactMechanism:
    """An artifact as a mechanism over values: reports are rounded to its grid, outcomes are what it computes.

    Attributes:
        engine: The artifact; it takes no context.
        unit: Value of one grid unit.
        certified: Whether its class's certificate holds.
    """

    engine: Engine
    unit: Fraction
    certified: bool

    @property
    def truthful(self) -> bool:
        """By certificate alone."""
        return self.certified

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        return self.engine.artifact.header.bidders

    @property
    def items(self) -> int:
        """Number of items."""
        return self.engine.artifact.header.items

    def run(self, valuations: Float[Tensor, "batch bidders items"]) -> Outcome:
        """Run reports in units of value; who reports nothing is absent (AGG-4)."""
        header = self.engine.artifact.header
        bids = np.rint(valuations.detach().double().numpy() / float(self.unit))
        grid = np.clip(bids, 0, header.bid_max).astype(np.int64)
        arrays = self.engine.run_arrays(grid, _present(grid))
        return Outcome(
            allocation=torch.from_numpy(arrays["allocation"] / header.unit_share).to(valuations),
            payment=torch.from_numpy(arrays["payment"] * float(self.unit / header.unit_share)).to(valuations),
        )
