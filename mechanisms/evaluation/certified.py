"""Upper bounds of a network's regret that no search could give: branch and bound over profiles and lies (EVAL-5).

The network is evaluated on boxes of bids: values at the centre, Jacobians as intervals (mean value form). What a lie
gains is bounded over pairs of a box of profiles and a box of lies by the smaller of two forms: the gain at the centres
plus the slopes times the half widths; and, where lie and truth are near, the way from one to the other times the slope
of the utility along it, which truthful mechanisms have near zero. Pairs that could gain most are split first.

Bounds hold for the network as a function of real numbers with the stored weights; `MARGIN` is added for the rounding of
the float64 arithmetic that computes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from mechanisms.networks.equivariant import EquivariantNet
from mechanisms.networks.network import Network
from mechanisms.networks.regret_net import RegretNet
from mechanisms.valuations import AsymmetricUniform, Uniform, ValuationModel

MARGIN: Final = 1e-9  # of values about 1
STEEPEST: Final = 600.0  # differences of logits beyond it change shares by less than the margin, and would overflow
BATCH: Final = 4096  # pairs that are bounded together
CHOSEN: Final = 512  # cells that are refined in one round

Boxes = Float[Tensor, "boxes inputs"]


@dataclass(frozen=True, slots=True)
class Span:
    """Intervals, elementwise."""

    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, centre: Tensor, radius: Tensor) -> Span:
        """Return centre +- radius."""
        return cls(centre - radius, centre + radius)

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Span) -> Span:
        return Span(self.low - other.high, self.high - other.low)

    def __mul__(self, other: Span) -> Span:
        corners = self.low * other.low, self.low * other.high, self.high * other.low, self.high * other.high
        low, high = torch.minimum(corners[0], corners[1]), torch.maximum(corners[0], corners[1])
        for corner in corners[2:]:
            low, high = torch.minimum(low, corner), torch.maximum(high, corner)
        return Span(low, high)

    def meet(self, other: Span) -> Span:
        """Return the intersection; both enclose the same number."""
        return Span(torch.maximum(self.low, other.low), torch.minimum(self.high, other.high))

    def sum(self, dim: int) -> Span:
        """Return the sum along a dimension."""
        return Span(self.low.sum(dim), self.high.sum(dim))

    def __getitem__(self, key: object) -> Span:
        return Span(self.low[key], self.high[key])  # type: ignore[index]

    def wide(self) -> Span:
        """Return the same with one more dimension at the end."""
        return Span(self.low[..., None], self.high[..., None])

    def size(self) -> Tensor:
        """Return the greatest absolute value."""
        return torch.maximum(self.low.abs(), self.high.abs())


@dataclass(frozen=True, slots=True)
class Enclosed:
    """What one bidder gets, and the part of its bid that it pays, over boxes of bids.

    Attributes:
        share: Shares by item, (boxes, items).
        share_slope: Their derivatives by every bid, (boxes, items, inputs).
        part: Part of the bid for the shares that is paid, (boxes, 1).
        part_slope: (boxes, 1, inputs).
        share_at: Shares at the centre.
        part_at: Part at the centre.
    """

    share: Span
    share_slope: Span
    part: Span
    part_slope: Span
    share_at: Tensor
    part_at: Tensor


class Enclosure:
    """Encloses a RegretNet for additive bidders over boxes of bids, from one bidder's side (NET-5).

    Args:
        network: The network, or an EquivariantNet, whose dense form it then is.
        bidder: Whose shares and payments.

    Raises:
        ValueError: If it is another kind of network.
    """

    def __init__(self, network: Network, bidder: int) -> None:
        if isinstance(network, EquivariantNet):
            network = network.dense()
        if not isinstance(network, RegretNet) or "want_0" in network.layers:
            raise ValueError("certified bounds are made for RegretNet and EquivariantNet with additive bidders only")
        self.bidders, self.items, self.bidder = network.bidders, network.items, bidder
        layers = {name: tensor[0].double() for name, tensor in network.layers.items()}
        self._allot, self._pay = self._tower(layers, "allot"), self._tower(layers, "pay")
        weights, bias = self._allot.pop()
        n, m = self.bidders, self.items
        weights, bias = weights.view(-1, n + 1, m), bias.view(n + 1, m)
        others = [k for k in range(n + 1) if k != bidder]
        # logits enter through differences: one layer gives them more tightly than two logits would
        self._allot.append(
            ((weights[:, bidder, None] - weights[:, others]).flatten(1), (bias[bidder] - bias[others]).flatten())
        )
        weights, bias = self._pay.pop()
        self._pay.append((weights[:, bidder : bidder + 1], bias[bidder : bidder + 1]))

    @staticmethod
    def _tower(layers: dict[str, Tensor], name: str) -> list[tuple[Tensor, Tensor]]:
        depth = sum(key.startswith(f"{name}_") and not key.endswith("_bias") for key in layers)
        return [(layers[f"{name}_{index}"], layers[f"{name}_{index}_bias"][0]) for index in range(depth)]

    def over(self, centre: Boxes, half: Boxes) -> Enclosed:
        """Return what holds for all bids within `half` of the centre."""
        n, m, boxes = self.bidders, self.items, len(centre)
        at, span, slope = _propagate(self._allot, centre, half)
        inputs = centre.shape[1]
        span = Span(span.low.clamp(-STEEPEST, STEEPEST), span.high.clamp(-STEEPEST, STEEPEST))
        odds = Span((-span.high).exp().view(boxes, n, m), (-span.low).exp().view(boxes, n, m))  # s_k / s_i
        slopes = Span(slope.low.view(boxes, n, m, inputs), slope.high.view(boxes, n, m, inputs))
        share = Span(1 / (1 + odds.high.sum(1)), 1 / (1 + odds.low.sum(1)))
        total = odds.sum(1)
        # s_k falls with every odds but its own
        rival_low = odds.low / (1 + total.high[:, None] - odds.high + odds.low)
        rival_high = odds.high / (1 + total.low[:, None] - odds.low + odds.high)
        product = Span(
            share.low[:, None] * rival_low, (share.high[:, None] * rival_high).clamp_max(0.25)
        )  # s_i s_k, at most 1/4
        share_slope = (product.wide() * slopes).sum(1)
        share_at = 1 / (1 + (-at).exp().view(boxes, n, m).sum(1))
        reach = (share_slope.size() * half[:, None]).sum(2)
        share = share.meet(Span.around(share_at, reach))
        at, span, slope = _propagate(self._pay, centre, half)
        part = Span(torch.sigmoid(span.low), torch.sigmoid(span.high))
        ends = torch.stack([part.low * (1 - part.low), part.high * (1 - part.high)])
        crest = torch.where((part.low <= 0.5) & (part.high >= 0.5), 0.25, ends.amax(0))
        part_slope = Span(ends.amin(0), crest).wide() * slope
        part_at = torch.sigmoid(at)
        part = part.meet(Span.around(part_at, (part_slope.size() * half[:, None]).sum(2)))
        return Enclosed(share, share_slope, part, part_slope, share_at, part_at)


def _propagate(layers: list[tuple[Tensor, Tensor]], centre: Boxes, half: Boxes) -> tuple[Tensor, Span, Span]:
    """Return a perceptron's value at the centres, its range over the boxes, and that of its Jacobian."""
    weights, bias = layers[0]
    at = centre @ weights + bias
    middle = weights.T.expand(len(centre), -1, -1)  # Jacobian: (boxes, outputs, inputs)
    radius = torch.zeros_like(middle)
    reach = half @ weights.abs()
    span = Span.around(at, reach)
    for weights, bias in layers[1:]:
        signal = Span(torch.tanh(span.low), torch.tanh(span.high))
        squares = torch.stack([signal.low**2, signal.high**2])
        steepest = torch.where((signal.low <= 0) & (signal.high >= 0), 1.0, 1 - squares.amin(0))
        flattest = 1 - squares.amax(0)
        mean, off = (steepest + flattest) / 2, (steepest - flattest) / 2
        radius = off[..., None] * middle.abs() + steepest[..., None] * radius
        middle = mean[..., None] * middle
        middle = torch.matmul(weights.T, middle)
        radius = torch.matmul(weights.T.abs(), radius)
        at = torch.tanh(at) @ weights + bias
        # the range of the signals times the weights, or the slopes times the half widths: both hold
        mid, spread = (signal.low + signal.high) / 2, (signal.high - signal.low) / 2
        plain = Span.around(mid @ weights + bias, spread @ weights.abs())
        span = plain.meet(Span.around(at, ((middle.abs() + radius) * half[:, None]).sum(2)))
    return at, span, Span(middle - radius, middle + radius)


@dataclass(frozen=True, slots=True)
class Round:
    """One line of the log.

    Attributes:
        pairs: Pairs of a box of profiles and a box of lies that were bounded so far.
        cells: Boxes of profiles that partition all.
        found: Largest gain met at a centre.
        largest: No lie at any profile gains more.
        mean: Mean regret is not above it, values uniform over their range.
        seconds: Since the start.
    """

    pairs: int
    cells: int
    found: float
    largest: float
    mean: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certified interval of one bidder's regret, in units of value.

    Attributes:
        bidder: Whose.
        found: Largest gain met at a centre: the lower end for the largest regret.
        largest: Upper bound of the gain of any lie at any profile.
        mean: Upper bound of the mean regret under values uniform over their range.
        closed: Whether the bounds were refined to the end asked for, rather than to the time limit.
        log: How the bounds came down.
    """

    bidder: int
    found: float
    largest: float
    mean: float
    closed: bool
    log: list[Round]


class _Search:
    """The state of branch and bound: cells of profiles, and pairs of a cell and a box of lies."""

    def __init__(self, enclosure: Enclosure, low: Tensor, high: Tensor, floor: float) -> None:
        n, m, self.bidder = enclosure.bidders, enclosure.items, enclosure.bidder
        self.enclosure, self.floor = enclosure, floor
        self.own = slice(self.bidder * m, (self.bidder + 1) * m)
        rivals = [k for k in range(n * m) if not self.own.start <= k < self.own.stop]
        self.rivals = torch.tensor(rivals, dtype=torch.long)
        flat_low, flat_high = low.double().flatten(), high.double().flatten()
        self.centre, self.half = ((flat_low + flat_high) / 2)[None], ((flat_high - flat_low) / 2)[None]
        self.mass = torch.ones(1, dtype=torch.float64)
        self.lie, self.lie_half = self.centre[:, self.own].clone(), self.half[:, self.own].clone()
        self.cell = torch.zeros(1, dtype=torch.long)
        self.done, self.rounds, self.found = 0, 0, 0.0
        self.bound, self.split = self.evaluate(self.cell, self.lie, self.lie_half)

    def evaluate(self, cell: Tensor, lie: Tensor, lie_half: Tensor) -> tuple[Tensor, Tensor]:
        """Return upper bounds of pairs and the input to split: profile inputs first, then those of the lie."""
        bounds, splits = [], []
        for start in range(0, len(cell), BATCH):
            part = slice(start, start + BATCH)
            bound, split = self._bounded(self.centre[cell[part]], self.half[cell[part]], lie[part], lie_half[part])
            bounds.append(torch.nan_to_num(bound + MARGIN, nan=torch.inf))  # nothing is known of what overflowed
            splits.append(split)
        self.done += len(cell)
        return torch.cat(bounds), torch.cat(splits)

    def _bounded(self, centre: Tensor, half: Tensor, lie: Tensor, lie_half: Tensor) -> tuple[Tensor, Tensor]:
        values, values_half = centre[:, self.own], half[:, self.own]
        bids, bids_half = centre.clone(), half.clone()
        bids[:, self.own], bids_half[:, self.own] = lie, lie_half
        true, told = Span.around(values, values_half), Span.around(lie, lie_half)
        lying, honest = self.enclosure.over(bids, bids_half), self.enclosure.over(centre, half)
        gain = (lying.share_at * (values - lying.part_at * lie)).sum(1)
        gain = gain - (honest.share_at * values).sum(1) * (1 - honest.part_at[:, 0])
        self.found = max(self.found, float(gain.max()))
        whole = Span(torch.ones_like(honest.part.low), torch.ones_like(honest.part.low))
        keep = whole - honest.part  # (boxes, 1)
        worth = (honest.share * true).sum(1)[:, None]
        spent = (lying.share * told).sum(1)[:, None]
        margin = true - lying.part * told  # v - q r, by item
        slope_honest = (honest.share_slope * (true * keep).wide()).sum(1) - honest.part_slope[:, 0] * worth
        slope_lying = (lying.share_slope * margin.wide()).sum(1) - lying.part_slope[:, 0] * spent
        by_value = lying.share - (slope_honest[:, self.own] + honest.share * keep)
        by_lie = slope_lying[:, self.own] - lying.part * lying.share
        by_rival = slope_lying[:, self.rivals] - slope_honest[:, self.rivals]
        pull = torch.zeros_like(centre)
        pull[:, self.own] = by_value.size() * values_half
        pull[:, self.rivals] = by_rival.size() * half[:, self.rivals]
        pull = torch.cat([pull, by_lie.size() * lie_half], dim=1)
        bound, split = gain + pull.sum(1), pull.argmax(1)
        # without slopes: better on large boxes, and where shares are near 0 or 1
        bound = torch.minimum(bound, ((lying.share * margin).sum(1) - (honest.share * true * keep).sum(1)).high)
        near = ((values - lie).abs() <= 2 * (values_half + lie_half)).all(1).nonzero()[:, 0]
        if len(near):
            closer, where = self._along(centre[near], half[near], lie[near], lie_half[near])
            better = closer < bound[near]
            bound[near] = torch.where(better, closer, bound[near])
            split[near] = torch.where(better, where, split[near])
        return bound, split

    def _along(self, centre: Tensor, half: Tensor, lie: Tensor, lie_half: Tensor) -> tuple[Tensor, Tensor]:
        """Bound the gain by the way from truth to lie times the slope of the utility in the report."""
        values, values_half = centre[:, self.own], half[:, self.own]
        low = torch.minimum(values - values_half, lie - lie_half)
        high = torch.maximum(values + values_half, lie + lie_half)
        bids, bids_half = centre.clone(), half.clone()
        bids[:, self.own], bids_half[:, self.own] = (low + high) / 2, (high - low) / 2
        between = self.enclosure.over(bids, bids_half)
        true, told = Span.around(values, values_half), Span(low, high)
        margin = true - between.part * told
        spent = (between.share * told).sum(1)[:, None]
        slope = (between.share_slope * margin.wide()).sum(1)
        slope = (slope - between.part_slope[:, 0] * spent)[:, self.own] - between.part * between.share
        way = (lie - values).abs() + values_half + lie_half
        pull = slope.size() * way
        item = pull.argmax(1)
        widths = torch.stack(
            [values_half.gather(1, item[:, None])[:, 0], lie_half.gather(1, item[:, None])[:, 0]], dim=1
        )
        rival = half[:, self.rivals].max(dim=1) if len(self.rivals) else None
        where = torch.where(widths[:, 0] >= widths[:, 1], self.own.start + item, centre.shape[1] + item)
        if rival is not None:
            where = torch.where(rival.values > widths.amax(1), self.rivals[rival.indices], where)
        return pull.sum(1), where

    def cells(self) -> Tensor:
        """Return the bound of every cell, never below the floor."""
        top = torch.full((len(self.centre),), self.floor, dtype=torch.float64)
        return top.scatter_reduce(0, self.cell, self.bound, "amax")

    def refine(self, weight: Tensor) -> None:
        """Split the worst pair of the cells of greatest weight, or these cells with all their pairs."""
        self.rounds += 1
        worst = self._worst()
        chosen = weight.topk(min(CHOSEN, len(weight))).indices
        chosen = chosen[(weight[chosen] > 0) & (worst[chosen] >= 0)]
        split = self.split[worst[chosen]]
        inputs = self.centre.shape[1]
        of_lie, of_cell = split >= inputs, split < inputs
        gone = torch.zeros(len(self.cell), dtype=torch.bool)
        fresh_cell, fresh_lie, fresh_half = [], [], []
        pairs = worst[chosen[of_lie]]
        if len(pairs):
            gone[pairs] = True
            axis = split[of_lie] - inputs
            for sign in (-1, 1):
                lie, half = _halves(self.lie[pairs], self.lie_half[pairs], axis, sign)
                fresh_cell.append(self.cell[pairs])
                fresh_lie.append(lie)
                fresh_half.append(half)
        parents, axis = chosen[of_cell], split[of_cell]
        if len(parents):
            count = len(self.centre)
            low, half = _halves(self.centre[parents], self.half[parents], axis, -1)
            high, _ = _halves(self.centre[parents], self.half[parents], axis, 1)
            centre, halves = self.centre.clone(), self.half.clone()
            centre[parents], halves[parents] = low, half
            self.mass[parents] /= 2
            self.centre, self.half = torch.cat([centre, high]), torch.cat([halves, half])
            self.mass = torch.cat([self.mass, self.mass[parents]])
            number = torch.full((count,), -1, dtype=torch.long)
            number[parents] = torch.arange(count, count + len(parents))
            members = (number[self.cell] >= 0).nonzero()[:, 0]
            gone[members] = True
            for cell in (self.cell[members], number[self.cell[members]]):
                fresh_cell.append(cell)
                fresh_lie.append(self.lie[members])
                fresh_half.append(self.lie_half[members])
        if not fresh_cell:
            return
        cell, lie, half = torch.cat(fresh_cell), torch.cat(fresh_lie), torch.cat(fresh_half)
        bound, split = self.evaluate(cell, lie, half)
        alive = bound > self.floor  # what cannot gain more than the floor needs no further look
        stay = ~gone
        self.cell = torch.cat([self.cell[stay], cell[alive]])
        self.lie, self.lie_half = torch.cat([self.lie[stay], lie[alive]]), torch.cat([self.lie_half[stay], half[alive]])
        self.bound = torch.cat([self.bound[stay], bound[alive]])
        self.split = torch.cat([self.split[stay], split[alive]])

    def _worst(self) -> Tensor:
        """Return the pair of greatest bound of every cell; -1 where none is left."""
        top = self.bound == self.cells()[self.cell]
        worst = torch.full((len(self.centre),), -1, dtype=torch.long)
        return worst.scatter_reduce(0, self.cell[top], top.nonzero()[:, 0], "amax")


def _halves(centre: Tensor, half: Tensor, axis: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    """Return the lower or upper halves of boxes along an axis of each."""
    rows = torch.arange(len(axis))
    half = half.clone()
    half[rows, axis] /= 2
    centre = centre.clone()
    centre[rows, axis] += sign * half[rows, axis]
    return centre, half


def uniform_range(values: ValuationModel) -> tuple[Tensor, Tensor] | None:
    """Return the least and the greatest values, (bidders, items), if they are independent and uniform, else nothing."""
    if isinstance(values, Uniform):
        low = torch.full((values.bidders, values.items), values.low, dtype=torch.float64)
        return low, torch.full_like(low, values.high)
    if isinstance(values, AsymmetricUniform):
        ends = torch.tensor(values.intervals, dtype=torch.float64)  # (items, 2)
        return ends[:, 0].expand(values.bidders, -1), ends[:, 1].expand(values.bidders, -1)
    return None


def certify_regret(
    network: Network,
    bidder: int,
    *,
    low: Float[Tensor, "bidders items"],
    high: Float[Tensor, "bidders items"],
    seconds: float,
    found: tuple[float, float] = (0.0, 0.0),
    tight: float = 1.1,
    progress: Callable[[Round], None] = lambda line: None,
) -> Certificate:
    """Bound what one bidder can gain by lying, from above.

    Rounds go by turns to the cells that hold the largest bound and to those that add most to the mean.

    Args:
        network: A RegretNet or EquivariantNet, for additive bidders.
        bidder: Whose regret.
        low: Least value and least report of each bidder and item, in units of value.
        high: Greatest value and report.
        seconds: Time limit; a round that has begun is ended.
        found: Mean and largest regret that a search found: the lower ends to come near to.
        tight: Both bounds within this factor of the lower ends is near enough.
        progress: Called with each line of the log.

    Raises:
        ValueError: If the network is of another kind, or a range is empty.
    """
    if not (low < high).all():
        raise ValueError(f"ranges from {low.tolist()} to {high.tolist()}, wanted some width")
    started, scale = time.perf_counter(), network.scale
    mean_found, largest_found = (value / scale for value in found)
    search = _Search(Enclosure(network, bidder), low / scale, high / scale, floor=max(mean_found / 20, 1e-6))
    log: list[Round] = []
    while True:
        cells = search.cells()
        largest, mean = float(cells.max()), float((search.mass * cells).sum())
        lower = min(max(search.found, largest_found), largest)  # a search in float32 may be above by its rounding
        seconds_now = time.perf_counter() - started
        closed = largest <= tight * lower and mean <= tight * mean_found
        ended = closed or seconds_now >= seconds or not (cells > search.floor).any()
        if ended or not log or seconds_now >= 1.25 * log[-1].seconds + 0.1:
            log.append(
                Round(search.done, len(cells), lower * scale, largest * scale, mean * scale, round(seconds_now, 2))
            )
            progress(log[-1])
        if ended:
            return Certificate(bidder, lower * scale, largest * scale, mean * scale, closed, log)
        worst_first = largest > tight * lower and search.rounds % 2 == 0
        search.refine(cells - search.floor if worst_first else search.mass * (cells - search.floor))
