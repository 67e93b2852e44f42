"""A mechanism as a person reads it: its certificate, what a lone bidder is offered, who wins what where."""

from __future__ import annotations

from collections import Counter
from math import comb
from typing import Final

import numpy as np

from credible.reports.blocks import Picture, Section, Table, numbers
from credible.reports.style import COLOURS, inline, new
from protocol.artifact import Header
from protocol.artifact.certify import certify
from protocol.artifact.engine import Engine

OFFERS: Final = 24  # rows of a price list
ENTRIES: Final = 24  # rows of a menu table
FINE: Final = 61  # bids of each item along a side of the regions
SUBSETS: Final = 12  # items whose bundles are all tried
TRIED: Final = 6000  # bids of a lone bidder that its offers are read from


def mechanism_section(data: bytes, context: tuple[int, ...] | None = None) -> Section:
    """Return what a report says of an artifact.

    Args:
        data: Its bytes; it is checked and run here.
        context: The public integers of a round, if it takes any; zeros if left out.

    Raises:
        ArtifactRefusedError: If a check refuses it.
    """
    engine = Engine(data)
    artifact, header = engine.artifact, engine.artifact.header
    given = (0,) * len(header.context) if context is None else context
    certificate = certify(artifact)
    section = Section("The mechanism")
    theorem = certificate.theorem or "nothing: this class has no certificate of truthfulness"
    section.facts = [
        ("class", header.kind),
        ("size", f"{header.bidders} bidders, {header.items} items"),
        ("bids", f"0 to {header.bid_max:,}, in units of {header.unit}"),
        ("truthful and individually rational", "proved from the file" if certificate.certified else "not proved"),
        ("rests on", theorem),
        ("exact", f"every number inside stays below 2^{artifact.max_bits}: the same integers on every computer"),
        ("SHA-256", artifact.file_sha256),
    ]
    section.facts += [("problem", text) for text in certificate.problems]
    section.blocks.append(_offers(engine, given))
    section.blocks += _menu(engine)
    section.blocks.append(_regions(engine, given))
    return section


def _run(
    engine: Engine, bids: np.ndarray, present: np.ndarray, context: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    given = np.array([context], dtype=np.int64).repeat(len(bids), axis=0) if context else None
    arrays = engine.run_arrays(bids, present.astype(np.int64), given)
    return arrays["allocation"], arrays["payment"]


def _alone(header: Header, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    bids = np.zeros((len(own), header.bidders, header.items), dtype=np.int64)
    bids[:, 0] = own
    present = np.zeros((len(own), header.bidders), dtype=bool)
    present[:, 0] = True
    return bids, present


def _offers(engine: Engine, context: tuple[int, ...]) -> Table:
    """Return what seat 0 is offered when nobody else comes: the outcomes that many bids of its own lead to."""
    header = engine.artifact.header
    source = np.random.default_rng(1)
    own = source.integers(0, header.bid_max + 1, (TRIED, header.items))
    own[: TRIED // 2] = np.where(source.random((TRIED // 2, header.items)) < 0.5, own[: TRIED // 2], 0)
    if header.items <= SUBSETS:  # the highest bid on every bundle
        subsets = (np.arange(1, 1 << header.items)[:, None] >> np.arange(header.items)) & 1
        own = np.concatenate([own, subsets * header.bid_max])
    bids, present = _alone(header, own)
    allocation, payment = _run(engine, bids, present, context)
    seen: dict[tuple[int, ...], tuple[int, int]] = {}
    for shares, paid in zip(allocation[:, 0].tolist(), payment[:, 0].tolist(), strict=True):
        key = tuple(shares)
        if any(key):
            low, high = seen.get(key, (paid, paid))
            seen[key] = (min(low, paid), max(high, paid))
    unit = header.unit_share
    offers = [(_bundle(shares, unit), sum(shares), low, high) for shares, (low, high) in seen.items()]
    by_size: dict[int, set[tuple[int, int]]] = {}
    bundles: Counter[int] = Counter()
    for shares, prices in seen.items():
        by_size.setdefault(sum(shares), set()).add(prices)
        bundles[sum(shares)] += 1
    whole = all(share in (0, unit) for shares in seen for share in shares)
    alike = all(len(prices) == 1 for prices in by_size.values())
    every = all(count == comb(header.items, size // unit) for size, count in bundles.items())
    if whole and header.items > 2 and alike and every:
        named = {size: f"any {size // unit} item{'s' if size > unit else ''}" for size in by_size}
        named[header.items * unit] = f"all {header.items} items"
        offers = [(named[size], size, *prices) for size, found in by_size.items() for prices in found]
    offers.sort(key=lambda offer: (offer[1], offer[2], offer[0]))
    most = min(OFFERS, len(offers))
    shown = [offers[i * (len(offers) - 1) // max(most - 1, 1)] for i in range(most)]
    rows = [
        (
            name,
            f"{low / unit:,.0f}" if low == high else f"{low / unit:,.0f} to {high / unit:,.0f}",
            f"{low / unit / header.bid_max:.3f}",
        )
        for name, _, low, high in shown
    ]
    caption = f"Price list: what a lone bidder on seat 0 is offered ({len(rows)} of {len(offers)} offers seen)"
    return Table(("it gets", "for", "price / highest bid for one item"), rows, caption, numbers(1, 2))


def _bundle(shares: tuple[int, ...], unit: int) -> str:
    parts = [
        f"item {item + 1}" if share > 0.999 * unit else f"{share / unit:.3f} of item {item + 1}"
        for item, share in enumerate(shares)
        if share >= 0.001 * unit
    ]
    if not parts:
        return "nothing (under 0.001 of an item)"
    if len(parts) == len(shares) and all(share == unit for share in shares) and len(shares) > 2:
        return f"all {len(shares)} items"
    return ", ".join(parts)


def _menu(engine: Engine) -> list[Table]:
    """Return the menu of an affine maximizer, its dearest entries to give away first."""
    artifact = engine.artifact
    parameters, unit = artifact.parameters, artifact.header.unit_share
    if "menu" not in parameters or "boosts" not in parameters:
        return []
    menu, boosts = parameters["menu"], parameters["boosts"]
    order = np.argsort(boosts, kind="stable")[::-1][:ENTRIES]
    rows = [
        (
            str(int(entry)),
            "; ".join(
                f"bidder {seat + 1}: {_bundle(tuple(shares), unit)}"
                for seat, shares in enumerate(menu[entry].tolist())
                if any(shares)
            )
            or "nothing is sold",
            f"{int(boosts[entry]) / unit:,.0f}",
        )
        for entry in order.tolist()
    ]
    weights = parameters.get("weights")
    text = f"; weights of the bidders {weights.tolist()}" if weights is not None else ""
    caption = f"Menu: {len(rows)} of {len(menu)} outcomes it chooses among, highest boost first{text}"
    return [Table(("entry", "who gets what", "boost"), rows, caption, numbers(0, 2), folded=len(menu) > 8)]


def _regions(engine: Engine, context: tuple[int, ...]) -> Picture:
    """Return where seat 0 wins what, as its bids for the first two items vary; the papers' figures."""
    header = engine.artifact.header
    steps = np.linspace(0, header.bid_max, FINE).astype(np.int64)
    cases = (
        [("alone", None)] if header.bidders == 1 else [("alone", None), ("each rival bids half", header.bid_max // 2)]
    )
    unit = header.unit_share
    if header.items == 1:
        figure, axes = new(2, width=8.2, height=3.2)
        for number, (name, rival) in enumerate(cases):
            allocation, payment = _against(engine, steps[:, None], rival, context)
            style = {"color": COLOURS[number], "label": name, "linestyle": "-" if number == 0 else "--"}
            axes[0].plot(steps / header.bid_max, allocation[:, 0] / unit, **style)
            axes[1].plot(steps / header.bid_max, payment / unit / header.bid_max, **style)
        axes[0].set(xlabel="own bid / highest", ylabel="chance to win", title="Seat 0 wins")
        axes[1].set(xlabel="own bid / highest", ylabel="payment / highest bid", title="Seat 0 pays")
        axes[0].legend()
        alt = "Chance to win and payment of seat 0 against its own bid"
        return Picture(inline(figure, alt), "How seat 0's outcome depends on its bid, alone and against rivals.")
    figure, grid = new(2, len(cases), width=7.6, height=3.3 * len(cases))
    first, second = (part.ravel() for part in np.meshgrid(steps, steps, indexing="ij"))
    own = np.full((len(first), header.items), header.bid_max // 2, dtype=np.int64)
    own[:, 0], own[:, 1] = first, second
    behind = []
    for row, (name, rival) in enumerate(cases):
        allocation, _ = _against(engine, own, rival, context)
        for item in (0, 1):
            axis = grid[item] if len(cases) == 1 else grid[row][item]
            shares = allocation[:, item].reshape(FINE, FINE) / unit
            image = axis.imshow(shares.T, origin="lower", extent=(0, 1, 0, 1), cmap="cividis", vmin=0, vmax=1)
            axis.set(
                xlabel="bid for item 1 / highest", ylabel="bid for item 2 / highest", title=f"Item {item + 1}, {name}"
            )
            axis.grid(visible=False)
            behind.append((f"item {item + 1}", name, f"{shares.mean():.3f}", f"{(shares > 0).mean():.3f}"))
    figure.colorbar(image, ax=grid, label="share that seat 0 gets", shrink=0.7)
    others = f"; bids for the other {header.items - 2} items are half of the highest" if header.items > 2 else ""
    alt = "Share of items 1 and 2 that seat 0 gets, by its bids for them"
    table = Table(("item", "rivals", "mean share", "region where it gets some"), behind, "", numbers(2, 3), folded=True)
    return Picture(inline(figure, alt), f"What seat 0 wins where, by its bids for the first two items{others}.", table)


def _against(
    engine: Engine, own: np.ndarray, rival: int | None, context: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    header = engine.artifact.header
    bids, present = _alone(header, own)
    if rival is not None:
        bids[:, 1:], present[:, 1:] = rival, True
    allocation, payment = _run(engine, bids, present, context)
    return allocation[:, 0], payment[:, 0]
