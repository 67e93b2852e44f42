"""Exactly truthful auctions read off a learned network, without retraining (REP-1 to REP-3).

Whatever a network does, a bidder that chooses for itself from a menu which its own bid does not move is truthful. Three
constructions, none of which needs the network to be truthful:

- one bidder: the menu is what the network gives and asks at a grid of reports, at a discount;
- two bidders: a menu for each box of the rival's bids, read at one bid of it; the second bidder's prices rise until
  no two choices, anywhere in a pair of boxes, give an item out more than once (the idea of GemNet, Wang et al. 2024,
  with rounded rivals in place of Lipschitz margins);
- any number: the affine maximizer over deterministic allocations whose boosts imitate the network's choices best.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor

from mechanisms.affine import AffineMaximizer
from mechanisms.affine.members import deterministic_menu
from mechanisms.outcome import Mechanism, Outcome, revenue
from mechanisms.training.loop import step_generator
from mechanisms.valuations import ValuationModel

DISCOUNTS: Final = (0.0, 0.002, 0.005, 0.01, 0.02, 0.04)
AHEAD: Final = 0.1  # where in a box of the rival's bids the first bidder's menu is read: a share of its width
ROUNDS: Final = 60  # of raising prices, before what is still in conflict is withdrawn
CHUNK: Final = 1 << 22  # entries times profiles that are worked on together
ENTRIES: Final = 64  # of a menu for a single bidder, beside nothing
SAMPLE: Final = 20_000  # profiles that boosts are fitted on
REPORTS: Final = 2000  # that a single bidder's menu is read at
BOXES: Final = 256  # of a rival's bids
READ: Final = 81  # reports that menus by rival are read at
SHARES: Final = 256  # of an item, to which menus by rival are rounded down
STEP: Final = 0.02  # by which prices are raised beyond need, widths of a box: it keeps rounds few
APART: Final = 1e-9  # of the values: what counts as equal
FITTED: Final = (400, 40.0)  # steps and inverse temperature of the imitation


def repaired_menu(
    network: Mechanism, sample: Float[Tensor, "batch 1 items"], *, side: int, low: Tensor, high: Tensor
) -> AffineMaximizer:
    """Return the menu that a network offers a single bidder, with the discount that earns most on a sample (REP-1).

    A discount makes dearer entries more attractive, and repays what bidders that only nearly prefer them would lose.

    Args:
        network: An auction for one bidder.
        sample: Values that the discount is chosen on.
        side: Reports of each item that the menu is read at.
        low: Least report by item, (1, items).
        high: Largest report by item.

    Raises:
        ValueError: If there are several bidders.
    """
    if network.bidders != 1:
        raise ValueError(f"{network.bidders} bidders: the menu of a single bidder was wanted")
    reports = _grid(low[0], high[0], side)
    offered = network.run(reports[:, None])
    menu = torch.cat([torch.zeros(1, 1, network.items), offered.allocation.clamp(0, 1)]).double()
    price = torch.cat([torch.zeros(1), offered.payment[:, 0]]).double()
    weights = torch.ones(1, dtype=torch.float64)
    worth = sample[:, 0].double() @ menu[:, 0].T  # (batch, entries)
    tried = []
    for discount in DISCOUNTS:
        asked = price * (1 - discount)
        tried.append((*_selected(worth - asked, asked), discount))
    _, kept, discount = max(tried, key=lambda found: found[0])
    return AffineMaximizer(menu[kept], -price[kept] * (1 - discount), weights)


def _selected(utility: Float[Tensor, "batch entries"], price: Float[Tensor, " entries"]) -> tuple[float, list[int]]:
    """Return what the best part of a menu earns on a sample, chosen entry by entry, and that part."""
    kept, best, earned = [0], utility[:, 0].clone(), torch.zeros_like(utility[:, 0])
    while len(kept) <= ENTRIES:
        total = torch.where(utility > best[:, None], price, earned[:, None]).mean(0)
        entry = int(total.argmax())
        if float(total[entry]) <= float(earned.mean()) * (1 + 1e-6):  # no more than rounding
            break
        kept.append(entry)
        better = utility[:, entry] > best
        earned = torch.where(better, price[entry], earned)
        best = torch.where(better, utility[:, entry], best)
    return float(earned.mean()), kept


def imitating_maximizer(network: Mechanism, sample: Float[Tensor, "batch bidders items"]) -> AffineMaximizer:
    """Return the affine maximizer whose choices are most likely those of a network (REP-3).

    Boosts are fitted by logistic regression of the network's shares, spread over the deterministic allocations; revenue
    is not looked at.
    """
    menu = deterministic_menu(network.bidders, network.items, "additive").double()
    shares = network.run(sample).allocation.double().clamp(0, 1)
    nobody = (1 - shares.sum(1, keepdim=True)).clamp_min(0)
    whole = torch.cat([shares, nobody], dim=1)  # (batch, bidders + 1, items): items are drawn one by one
    winners = torch.cat([menu, 1 - menu.sum(1, keepdim=True)], dim=1)
    likely = torch.einsum("bni,kni->bki", whole, winners).prod(2)
    worth = torch.einsum("bni,kni->bk", sample.double(), menu)
    scale = float(worth.max())
    steps, temperature = FITTED
    boosts = torch.zeros(len(menu), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([boosts], max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = (worth / scale + boosts) * temperature
        value = -(likely * torch.log_softmax(logits, dim=1)).sum(1).mean()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    found = boosts.detach() * scale
    empty = (menu.sum((1, 2)) == 0).nonzero()[0, 0]
    return AffineMaximizer(menu, found - found[empty], torch.ones(network.bidders, dtype=torch.float64))


@final
@dataclass(frozen=True, slots=True, eq=False)
class RivalMenus:
    """Two bidders choose from menus that depend on the box of the rival's bids only (REP-2).

    Truthful and individually rational for additive bidders whatever the menus; feasible because `repaired_pair` raised
    prices until it was, which `conflicts` checks. All of it holds for every value from zero up.

    Attributes:
        menus: By bidder, shares in each box of the rival's bids, (2, boxes, entries, items); entry 0 is nothing.
        prices: By bidder, (2, boxes, entries), in units of value; infinite where withdrawn, 0 for entry 0.
        low: Lower corner of all boxes of each bidder's bids, (2, items).
        width: Width of a box of each bidder's bids, (2, items).
        side: Boxes along an item.
    """

    menus: Float[Tensor, "two boxes entries items"]
    prices: Float[Tensor, "two boxes entries"]
    low: Float[Tensor, "two items"]
    width: Float[Tensor, "two items"]
    side: int

    @property
    def bidders(self) -> int:
        """Two."""
        return 2

    @property
    def items(self) -> int:
        """Number of items."""
        return self.menus.shape[3]

    @property
    def truthful(self) -> bool:
        """Always."""
        return True

    def run(self, valuations: Float[Tensor, "batch 2 items"]) -> Outcome:
        """Run one auction per profile of reports."""
        shares, payments = [], []
        rows = max(1, CHUNK // self.menus.shape[2])
        for bidder in (0, 1):
            box = _box(valuations[:, 1 - bidder], self.low[1 - bidder], self.width[1 - bidder], self.side)
            chosen = []
            for start in range(0, len(valuations), rows):
                part = slice(start, start + rows)
                menu, price = self.menus[bidder, box[part]], self.prices[bidder, box[part]]
                own = valuations[part, bidder].to(menu)
                chosen.append((torch.bmm(menu, own[:, :, None])[:, :, 0] - price).argmax(1))
            entry = torch.cat(chosen)
            shares.append(self.menus[bidder, box, entry].to(valuations))
            payments.append(self.prices[bidder, box, entry].to(valuations))
        return Outcome(allocation=torch.stack(shares, dim=1), payment=torch.stack(payments, dim=1))

    def conflicts(self) -> int:
        """Return in how many pairs of boxes two possible choices give an item out more than once."""
        most, other = self.most(0), self.most(1)
        return int((most.transpose(0, 1) + other > 1 + APART).any(2).sum())

    def boxes(self, bidder: int) -> _Boxes:
        """Return the boxes of a bidder's values: those at the ends reach down to zero and up without end."""
        return _Boxes.of(self.low[bidder], self.width[bidder], self.side)

    def most(self, bidder: int) -> Float[Tensor, "rivals boxes items"]:
        """Return the largest share of each item that a bidder in a box may choose against a rival in a box."""
        own = self.boxes(bidder)
        return torch.stack([
            (_possible(menu, price, own)[:, :, None] * menu).amax(1)
            for menu, price in zip(self.menus[bidder], self.prices[bidder], strict=True)
        ])  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Boxes:
    """Boxes of one bidder's values.

    Attributes:
        centre: (boxes, items).
        down: How far a box reaches below its centre.
        up: How far above; infinite at the upper end.
    """

    centre: Tensor
    down: Tensor
    up: Tensor

    @classmethod
    def of(cls, low: Tensor, width: Tensor, side: int) -> _Boxes:
        centre = _centres(low, width, side)
        down, up = (width / 2).repeat(len(centre), 1), (width / 2).repeat(len(centre), 1)
        number = ((centre - low) / width).floor().long()
        down = torch.where(number == 0, centre, down)
        return cls(centre, down, torch.where(number == side - 1, torch.inf, up))

    def reach(self, more: Tensor) -> Tensor:
        """Return by how much, beyond the centre, a choice with `more` of each item can gain within each box.

        Args:
            more: Shares beyond those of another choice, (boxes, ..., items).
        """
        shape = (len(self.centre), *[1] * (more.dim() - 2), more.shape[-1])
        up = torch.where(more > 0, more * self.up.view(shape), 0.0)  # not infinity times zero
        down = torch.where(more < 0, -more * self.down.view(shape), 0.0)
        return (up + down).sum(-1)

    def some(self, which: Tensor) -> _Boxes:
        """Return a part of them."""
        return _Boxes(self.centre[which], self.down[which], self.up[which])


def repaired_pair(
    network: Mechanism,
    sample: Float[Tensor, "batch 2 items"],
    *,
    side: int,
    reports: int,
    low: Tensor,
    high: Tensor,
) -> RivalMenus:
    """Return menus for two bidders, read off a network, with prices raised until they are feasible (REP-2).

    The first bidder's menu is read near the lower corner of the rival's box, the second's at the upper one: where both
    are in one box the first one wins, and what it pays too little the second pays too much.

    Args:
        network: An auction for two additive bidders.
        sample: Values that the discount is chosen on.
        side: Boxes of a bidder's bids along an item.
        reports: Reports of each item that the menus are read at.
        low: Least report of each bidder and item.
        high: Largest report.

    Raises:
        ValueError: If there are not two bidders.
    """
    if network.bidders != 2:
        raise ValueError(f"{network.bidders} bidders: two were wanted")
    width = ((high - low) / side).double()
    menus, prices = [], []
    for bidder in (0, 1):
        rival = 1 - bidder
        corners = _centres(low[rival], width[rival], side) - width[rival] / 2
        at = corners + width[rival] * (AHEAD if bidder == 0 else 1.0)
        lies = _grid(low[bidder], high[bidder], reports)
        menu, price = _read(network, bidder, at, lies)
        menus.append(menu)
        prices.append(price)
    tried = []
    for discount in DISCOUNTS[1:]:
        raised = _feasible(RivalMenus(
            torch.stack(menus), torch.stack(prices) * (1 - discount), low.double(), width, side
        ))  # fmt: skip
        tried.append((float(revenue(raised.run(sample)).mean()), raised))
    return max(tried, key=lambda found: found[0])[1]


def _read(network: Mechanism, bidder: int, rivals: Tensor, lies: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a network gives and asks at every report against every rival, nothing for nothing first."""
    menus, prices = [], []
    for part in torch.split(rivals, max(1, (1 << 18) // len(lies))):
        own = lies[None].expand(len(part), -1, -1)
        other = part[:, None].expand(-1, len(lies), -1)
        bids = torch.stack([own, other] if bidder == 0 else [other, own], dim=2).flatten(0, 1).float()
        outcome = network.run(bids)
        shares = outcome.allocation[:, bidder].view(len(part), len(lies), -1).double()
        menus.append((shares * SHARES + 1e-4).floor().clamp(0, SHARES) / SHARES)
        prices.append(outcome.payment[:, bidder].view(len(part), -1).double().clamp_min(0))
    menu, price = torch.cat(menus), torch.cat(prices)
    nothing = torch.zeros_like(menu[:, :1])
    return torch.cat([nothing, menu], dim=1), torch.cat([nothing[..., 0], price], dim=1)


def _feasible(auction: RivalMenus) -> RivalMenus:
    """Return the auction with the second bidder's prices raised where its choices meet the first one's."""
    own, raised = auction.boxes(1), STEP * float(auction.width[1].mean())
    free = 1 - auction.most(0)  # what the first leaves, by boxes of the second and of the first
    prices = auction.prices.clone()
    for box in range(free.shape[1]):
        menu, price = auction.menus[1, box], prices[1, box]
        allowed = (menu[None] <= free[:, None, box] + APART).all(2)  # (boxes of the second, entries)
        worth = own.centre @ menu.T
        for attempt in itertools.count():
            bad = _possible(menu, price, own) & ~allowed
            if not bad.any():
                break
            entries = bad.any(0).nonzero()[:, 0]
            if attempt >= ROUNDS:  # nothing is always allowed, so this ends
                price[entries] = torch.inf
                continue
            boxes = bad.any(1).nonzero()[:, 0]
            more = (menu[entries][:, None] - menu[None]).expand(len(boxes), -1, -1, -1)  # than any other
            rest = (worth[boxes] - price).masked_fill(~allowed[boxes], -torch.inf)
            # the worst case of the best allowed choice; without one that keeps up for ever, the entry is withdrawn
            other = (rest[:, None] - own.some(boxes).reach(more)).amax(2)
            needed = (worth[boxes][:, entries] - other).masked_fill(~bad[boxes][:, entries], -torch.inf).amax(0)
            price[entries] = torch.maximum(price[entries], needed) + raised
        prices[1, box] = price
    return RivalMenus(auction.menus, prices, auction.low, auction.width, auction.side)


def _possible(menu: Tensor, price: Tensor, boxes: _Boxes) -> Tensor:
    """Return which entries somebody in each box of values may choose, and some more: (boxes, entries).

    An entry is out if everywhere in the box the best one of its centre is better.
    """
    utility = boxes.centre @ menu.T - price
    top = utility.max(dim=1)
    reach = boxes.reach(menu[None] - menu[top.indices][:, None])
    near = APART * float(boxes.centre.abs().max().clamp_min(1.0))  # rounding of values, and of which box they lie in
    return torch.isfinite(price) & (utility + reach >= top.values[:, None] - near)


def _grid(low: Tensor, high: Tensor, side: int) -> Tensor:
    steps = [torch.linspace(0, 1, side, dtype=torch.float64) * (b - a) + a for a, b in zip(low, high, strict=True)]
    return torch.cartesian_prod(*steps).view(-1, len(low))


def _centres(low: Tensor, width: Tensor, side: int) -> Tensor:
    steps = [a + w * (torch.arange(side, dtype=torch.float64) + 0.5) for a, w in zip(low, width, strict=True)]
    return torch.cartesian_prod(*steps).view(-1, len(low))


def _box(values: Tensor, low: Tensor, width: Tensor, side: int) -> Tensor:
    """Return the number of the box that values lie in; what lies outside counts to the nearest."""
    index = ((values - low) / width).floor().long().clamp(0, side - 1)
    number = index[:, 0]
    for item in range(1, values.shape[1]):
        number = number * side + index[:, item]
    return number


def repairs(network: Mechanism, values: ValuationModel, *, seed: int) -> dict[str, Mechanism]:
    """Return what each construction that fits makes of a network, by name; all are exactly truthful.

    Args:
        network: An auction for additive bidders.
        values: What discounts and boosts are fitted on, and the range of reports.
        seed: Of the draws.
    """
    sample = values.sample(SAMPLE, step_generator(seed, 15, 0)).float()
    low, high = sample.amin(0).double(), sample.amax(0).double()
    found: dict[str, Mechanism] = {"imitating maximizer": imitating_maximizer(network, sample)}
    if network.bidders == 1:
        side = max(2, round(REPORTS ** (1 / network.items)))
        found["menu"] = repaired_menu(network, sample[:5000], side=side, low=low, high=high)
    if network.bidders == 2:
        side = max(1, int(BOXES ** (1 / network.items) + 1e-9))
        count = max(3, round(READ ** (1 / network.items)))
        found["menus by rival"] = repaired_pair(network, sample, side=side, reports=count, low=low, high=high)
    return found
