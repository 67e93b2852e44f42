"""The regret auditor: what a bidder could gain by lying, searched for honestly on any mechanism (EVAL-4).

A search gives a lower bound. The auditor searches in stages, each starting from what the ones before it found, and
keeps the curve of what was found against the reports tried: a curve that still rises is an unfinished search.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from mechanisms.outcome import Mechanism, utilities
from mechanisms.training.loop import step_generator
from mechanisms.valuations import ValuationModel

SCALES: Final = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0)
SEEN: Final = 20_000  # profiles that the range of reports is read from
SIDE: Final = 51  # of the grid
QUANTILES: Final = (0.5, 0.9, 0.99)
RADII: Final = (0.1, 0.03, 0.01, 0.003, 0.001)  # of the local refinement, shares of the range of bids
DECAYS: Final = (0.9, 0.99)

Reports = Float[Tensor, "batch tries items"]


@dataclass(frozen=True, slots=True)
class Worst:
    """The lie that gains most.

    Attributes:
        profile: Everybody's true values, (bidders, items) as nested lists.
        report: What the bidder reports instead, by item.
        gain: What it gains, in units of value.
    """

    profile: list[list[float]]
    report: list[float]
    gain: float


@dataclass(frozen=True, slots=True)
class Searched:
    """What a stage of the search had found when it ended.

    Attributes:
        stage: Its name.
        reports: Reports tried so far for each profile and bidder.
        mean: Largest over bidders of the mean gain found.
        largest: Largest gain found.
        seconds: Since the search began.
    """

    stage: str
    reports: int
    mean: float
    largest: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Audit:
    """Regret as far as it was found: lower bounds, in units of value.

    Attributes:
        mean: By bidder, over profiles.
        quantiles: By bidder, of `QUANTILES` over profiles.
        largest: By bidder.
        worst: The lie that gains most of all.
        curve: How the search went on, stage by stage.
        profiles: Profiles searched.
        gradients: Whether the mechanism gave gradients to climb.
    """

    mean: list[float]
    quantiles: list[list[float]]
    largest: list[float]
    worst: Worst
    curve: list[Searched]
    profiles: int
    gradients: bool

    @property
    def regret(self) -> float:
        """The largest over bidders of the mean gain found."""
        return max(self.mean)

    @property
    def unfinished(self) -> bool:
        """Whether the last stage still found more than one per cent beyond the stages before it."""
        return len(self.curve) > 1 and self.curve[-1].mean > 1.01 * self.curve[-2].mean + 1e-9


class Search:
    """A search for misreports of one bidder against given profiles.

    Args:
        mechanism: Anything that runs reports.
        valuations: True profiles, (profiles, bidders, items).
        bidder: Who lies.
        low: Least report by item.
        high: Largest report by item.
        most: Rows that are run together.
    """

    def __init__(
        self,
        mechanism: Mechanism,
        valuations: Float[Tensor, "batch bidders items"],
        bidder: int,
        low: Float[Tensor, " items"],
        high: Float[Tensor, " items"],
        most: int = 1 << 15,
    ) -> None:
        self._mechanism, self._values, self._bidder = mechanism, valuations, bidder
        self._low, self._high, self._most = low, high, most
        self.truthful = utilities(mechanism.run(valuations), valuations)[:, bidder]
        self.best = torch.zeros_like(self.truthful)  # staying with the truth gains nothing
        self.report = valuations[:, bidder].clone()
        self.tried = 0

    def range(self) -> tuple[Tensor, Tensor]:
        """Return the least and the largest report by item."""
        return self._low, self._high

    def own(self) -> Tensor:
        """Return the bidder's true values, (profiles, items)."""
        return self._values[:, self._bidder]

    def gains(self, reports: Reports) -> Float[Tensor, "batch tries"]:
        """Return what reports gain over the truth; gradients flow where the mechanism's do."""
        batch, tries, _ = reports.shape
        rows = max(1, self._most // tries)
        parts = []
        for start in range(0, batch, rows):
            chunk = reports[start : start + rows]
            profiles = self._values[start : start + rows, None].expand(-1, tries, -1, -1)
            bids = torch.cat(
                [profiles[:, :, : self._bidder], chunk[:, :, None], profiles[:, :, self._bidder + 1 :]], dim=2
            )
            flat, true = bids.flatten(0, 1), profiles.flatten(0, 1)
            worth = utilities(self._mechanism.run(flat), true)[:, self._bidder]
            parts.append(worth.view(-1, tries) - self.truthful[start : start + rows, None])
        return torch.cat(parts)

    def offer(self, reports: Reports) -> Float[Tensor, "batch tries"]:
        """Try reports and keep the best of each profile; return what each gains."""
        reports = torch.minimum(torch.maximum(reports, self._low), self._high)
        with torch.no_grad():
            gains = self.gains(reports)
        self.keep(reports, gains)
        self.tried += reports.shape[1]
        return gains

    def keep(self, reports: Reports, gains: Float[Tensor, "batch tries"]) -> None:
        """Keep the best of each profile among reports whose gains are known."""
        top, where = gains.max(dim=1)
        better = top > self.best
        self.best = torch.where(better, top, self.best)
        chosen = reports[torch.arange(len(reports)), where]
        self.report = torch.where(better[:, None], chosen, self.report)

    def structured(self) -> Reports:
        """Return scalings, single items dropped, kept or swapped, the corners of the range, others' bids."""
        own = self._values[:, self._bidder]
        items = own.shape[1]
        tries = [own * scale for scale in SCALES]
        for item in range(items):
            only = torch.zeros_like(own)
            only[:, item] = own[:, item]
            dropped = own.clone()
            dropped[:, item] = 0
            raised = own.clone()
            raised[:, item] = self._high[item]
            tries += [only, dropped, raised]
        tries += [own.roll(step, dims=1) for step in range(1, min(items, 4))]
        tries += [self._high.expand_as(own), self._low.expand_as(own)]
        tries += [self._values[:, other] for other in range(self._values.shape[1]) if other != self._bidder]
        return torch.stack(tries, dim=1)

    def ascend(self, starts: Reports, steps: int, rate: float) -> None:
        """Climb the gain by Adam from several starts of each profile, with a rate that falls to zero."""
        reports = starts.clone()
        first, second = torch.zeros_like(reports), torch.zeros_like(reports)
        span = (self._high - self._low) * rate
        for step in range(1, steps + 1):
            with torch.enable_grad():
                reports.requires_grad_(True)
                gains = self.gains(reports)
                (slopes,) = torch.autograd.grad(gains.sum(), reports)
            reports = reports.detach()
            self.keep(reports, gains.detach())
            first.lerp_(slopes, 1 - DECAYS[0])
            second.mul_(DECAYS[1]).addcmul_(slopes, slopes, value=1 - DECAYS[1])
            spread = (second / (1 - DECAYS[1] ** step)).sqrt_().add_(1e-12)
            factor = 1 - (step - 1) / steps
            moved = reports + (first / (1 - DECAYS[0] ** step)) / spread * (span * factor)
            reports = torch.minimum(torch.maximum(moved, self._low), self._high)
        self.tried += steps * starts.shape[1]
        self.offer(reports)

    def refine(self, tries: int, draw: Callable[[tuple[int, ...]], Tensor]) -> None:
        """Try reports around the best, in balls that shrink."""
        span = self._high - self._low
        for radius in RADII:
            around = draw((len(self.report), tries, self.report.shape[1])) * 2 - 1
            axis = torch.arange(tries) % (self.report.shape[1] + 1)  # one item alone, or all of them
            alone = torch.nn.functional.one_hot(axis, self.report.shape[1] + 1)[:, :-1].to(around)
            mask = torch.where(alone.any(1, keepdim=True), alone, torch.ones_like(alone))
            self.offer(self.report[:, None] + around * mask * radius * span)


def audit_regret(
    mechanism: Mechanism,
    valuations: Float[Tensor, "batch bidders items"],
    *,
    low: Float[Tensor, "bidders items"],
    high: Float[Tensor, "bidders items"],
    seed: int = 0,
    drawn: int = 256,
    kept: int = 8,
    steps: int = 100,
    rate: float = 0.03,
) -> Audit:
    """Search for misreports and report what was found.

    Args:
        mechanism: Anything that runs reports; what gives gradients (networks) is climbed too.
        valuations: True profiles, (profiles, bidders, items), in units of value.
        low: Least report of each bidder and item.
        high: Largest report.
        seed: Decides random starts and the quasi-random points.
        drawn: Quasi-random reports of each profile.
        kept: Starts of each profile that are climbed from.
        steps: Of the climb.
        rate: Of the climb's first step, a share of the range.

    Returns:
        Lower bounds of each bidder's regret, with the curve of the search.

    Raises:
        ValueError: If there are no profiles, or a range of reports is empty.
    """
    if not len(valuations) or not (low <= high).all():
        raise ValueError(f"{len(valuations)} profiles and ranges from {low.tolist()} to {high.tolist()}")
    started = time.perf_counter()
    source = torch.Generator().manual_seed(seed)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=source, dtype=valuations.dtype)

    searches = [Search(mechanism, valuations, i, low[i], high[i]) for i in range(valuations.shape[1])]
    climbs = _has_gradients(mechanism, valuations)
    stages: list[tuple[str, Callable[[Search], None]]] = [("structured", lambda s: _scatter(s, 0, draw, seed))]
    if valuations.shape[2] <= 2:
        stages.append(("grid", _grid))
    stages.append(("quasi-random", lambda s: _scatter(s, drawn, draw, seed)))
    if climbs:
        stages.append(("ascent", lambda s: s.ascend(_starts(s, kept, draw), steps, rate)))
    stages.append(("refinement", lambda s: s.refine(24, draw)))
    stages.append(("others' lies", lambda s: _guided(s, kept)))
    if climbs:
        stages.append(("second ascent", lambda s: s.ascend(_around(s, max(kept // 2, 1), draw), steps, rate / 3)))
    stages.append(("second refinement", lambda s: s.refine(24, draw)))
    curve = []
    for name, stage in stages:
        for search in searches:
            stage(search)
        found = torch.stack([search.best for search in searches], dim=1)
        curve.append(
            Searched(
                name, searches[0].tried, float(found.mean(0).max()), float(found.max()), time.perf_counter() - started
            )
        )
    found = torch.stack([search.best for search in searches], dim=1)
    profile, liar = divmod(int(found.argmax()), found.shape[1])
    return Audit(
        mean=found.mean(0).tolist(),
        quantiles=torch.quantile(found.double(), torch.tensor(QUANTILES, dtype=torch.float64), dim=0).T.tolist(),
        largest=found.amax(0).tolist(),
        worst=Worst(valuations[profile].tolist(), searches[liar].report[profile].tolist(), float(found[profile, liar])),
        curve=curve,
        profiles=len(valuations),
        gradients=climbs,
    )


def _has_gradients(mechanism: Mechanism, valuations: Tensor) -> bool:
    """Return whether reports have slopes: what chooses among outcomes has none, or refuses to be differentiated."""
    if mechanism.truthful:
        return False  # it is flat between its jumps, and there is nothing to climb
    try:
        with torch.enable_grad():
            reports = valuations[:1].clone().requires_grad_(True)
            payment = mechanism.run(reports).payment
            if not payment.requires_grad:
                return False
            (slopes,) = torch.autograd.grad(payment.sum(), reports, allow_unused=True)
            return slopes is not None
    except RuntimeError:
        return False


def _scatter(search: Search, drawn: int, draw: Callable[[tuple[int, ...]], Tensor], seed: int) -> None:
    """Try the structured reports, or quasi-random ones shifted by a random vector for each profile."""
    if not drawn:
        search.offer(search.structured())
        return
    items = search.report.shape[1]
    points = torch.quasirandom.SobolEngine(items, scramble=True, seed=seed).draw(drawn).to(search.report)  # type: ignore[no-untyped-call]
    shifted = (points[None] + draw((len(search.report), 1, items))) % 1
    low, high = search.range()
    search.offer(low + shifted * (high - low))


def _grid(search: Search) -> None:
    """Try a grid over the whole range of one or two items."""
    low, high = search.range()
    steps = [low[item] + (high[item] - low[item]) * torch.linspace(0, 1, SIDE).to(low) for item in range(len(low))]
    points = torch.cartesian_prod(*steps).view(-1, len(low))
    for part in torch.split(points, 1024):
        search.offer(part.expand(len(search.report), -1, -1))


def _starts(search: Search, kept: int, draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """Return starts of a climb: the best so far, the truth, the best of the structured reports, random ones."""
    low, high = search.range()
    structured = torch.minimum(torch.maximum(search.structured(), low), high)
    with torch.no_grad():
        gains = search.gains(structured)
    few = max(kept - 2 - kept // 3, 1)
    top = gains.topk(min(few, gains.shape[1]), dim=1).indices
    chosen = structured.gather(1, top[:, :, None].expand(-1, -1, structured.shape[2]))
    random = low + draw((len(chosen), max(kept // 3, 1), structured.shape[2])) * (high - low)
    return torch.cat([search.report[:, None], search.own()[:, None], chosen, random], dim=1)


def _around(search: Search, kept: int, draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    low, high = search.range()
    noise = (draw((len(search.report), kept, search.report.shape[1])) * 2 - 1) * 0.05 * (high - low)
    noise[:, 0] = 0
    return torch.minimum(torch.maximum(search.report[:, None] + noise, low), high)


def _guided(search: Search, kept: int) -> None:
    """Try on every profile what gained most on others: as it was reported, and by the same factors of the truth."""
    own = search.own()
    best = search.best.topk(min(kept, len(search.best))).indices
    reported = search.report[best]
    factors = reported / own[best].clamp_min(1e-9)
    search.offer(reported[None].expand(len(own), -1, -1))
    search.offer(own[:, None] * factors[None])


def audit_values(
    mechanism: Mechanism,
    values: ValuationModel,
    *,
    profiles: int,
    seed: int,
    admitted: tuple[float, float] | None = None,
) -> Audit:
    """Search for misreports on profiles of a valuation model.

    Args:
        mechanism: Anything that runs reports.
        values: True profiles are drawn from here, and the range of reports is read from it.
        profiles: How many profiles to search.
        seed: Decides every draw.
        admitted: Least and largest report that the mechanism takes; the range of the values if left out.

    Raises:
        ValueError: If there are no profiles.
    """
    seen = values.sample(SEEN, step_generator(seed, 13, 0)).float()
    drawn = values.sample(profiles, step_generator(seed, 14, 0)).float()
    low, high = drawn.amin(0).minimum(seen.amin(0)), drawn.amax(0).maximum(seen.amax(0))
    if admitted is not None:
        low, high = torch.full_like(low, admitted[0]), torch.full_like(high, admitted[1])
    return audit_regret(mechanism, drawn, low=low, high=high, seed=seed)
