"""Exact execution against float64 execution of the same auctions, and what the sandbox costs."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import torch

from benchmarks.timing import medians
from mechanisms.affine import AffineMaximizer, FeeNetwork, SizeBoosted, WithFee
from mechanisms.export import quantise
from protocol.artifact import RoundInput, Sandbox
from protocol.artifact.engine import Engine


def menu(bidders: int, items: int, entries: int) -> AffineMaximizer:
    """Return a random menu of lotteries."""
    source = torch.Generator().manual_seed(0)
    shares = torch.softmax(torch.randn(entries, bidders + 1, items, generator=source, dtype=torch.float64) * 3, 1)
    return AffineMaximizer(
        menu=shares[:, :bidders],
        boosts=torch.randn(entries, generator=source, dtype=torch.float64) * 0.1,
        weights=torch.ones(bidders, dtype=torch.float64),
    )


def sizes(bidders: int, items: int) -> SizeBoosted:
    """Return random size boosts."""
    source = torch.Generator().manual_seed(0)
    boosts = torch.rand(comb(items + bidders, bidders), generator=source, dtype=torch.float64)
    return SizeBoosted(boosts=boosts, weights=torch.ones(bidders, dtype=torch.float64), items=items)


def with_fee(base: AffineMaximizer | SizeBoosted, hidden: int = 64) -> WithFee:
    """Return a base with a random fee network."""
    source = torch.Generator().manual_seed(1)
    n, inputs = base.bidders, (base.bidders - 1) * base.items

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64) * 0.1

    return WithFee(
        base,
        FeeNetwork(draw(n, inputs, hidden), draw(n, hidden), draw(n, hidden, hidden), draw(n, hidden), draw(n, hidden),
                   draw(n)),
    )  # fmt: skip


def main() -> None:
    """Print the ratios."""
    torch.set_num_threads(1)
    auctions: list[tuple[str, AffineMaximizer | SizeBoosted | WithFee, int]] = [
        ("menu of 32", menu(2, 2, 32), 1024),
        ("menu of 256", menu(2, 5, 256), 1024),
        ("menu of 2048", menu(3, 10, 2048), 256),
        ("size boosts", sizes(2, 5), 1024),
        ("size boosts", sizes(3, 10), 256),
        ("size boosts with a fee", with_fee(sizes(2, 5)), 1024),
        ("size boosts with a fee", with_fee(sizes(3, 10)), 256),
    ]
    for name, auction, batch in auctions:
        bidders, items = auction.bidders, auction.items
        artifact = quantise(auction, unit=Fraction(1, 10**6), bid_max=10**6, share_bits=16, name="1e-6")
        engine = Engine(artifact.data)
        source = torch.Generator().manual_seed(2)
        values = torch.rand(batch, bidders, items, generator=source, dtype=torch.float64)
        bids = np.rint(values.numpy() * 1e6).astype(np.int64)
        times = medians(
            {"exact": lambda e=engine, b=bids: e.run_arrays(b), "float": lambda a=auction, v=values: a.run(v)}
        )
        one = [RoundInput(bids=bids[0].tolist(), participation=[1] * bidders, context=[])]
        with Sandbox(artifact.data) as child:
            single = medians(
                {"sandbox": lambda c=child, r=one: c.run(r), "process": lambda e=engine, r=one: e.run(r)}, 50
            )
        print(
            f"{bidders}x{items}, {name}: exact artifact {batch / times['exact']:,.0f} auctions/s, "
            f"{times['float'] / times['exact']:.2f}x torch float64; one round in the sandbox "
            f"{single['sandbox'] * 1e6:.0f} us, {single['sandbox'] / single['process']:.1f}x in process"
        )


if __name__ == "__main__":
    main()
