"""Exact execution against float64 execution of the same auction, and what the sandbox costs."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch

from benchmarks.timing import medians
from mechanisms.affine import AffineMaximizer
from mechanisms.export import quantise
from protocol.artifact import RoundInput, Sandbox
from protocol.artifact.engine import Engine


def main() -> None:
    """Print the ratios."""
    torch.set_num_threads(1)
    for bidders, items, entries, batch in ((2, 2, 32, 1024), (2, 5, 256, 1024), (3, 10, 2048, 256)):
        source = torch.Generator().manual_seed(0)
        shares = torch.softmax(torch.randn(entries, bidders + 1, items, generator=source, dtype=torch.float64) * 3, 1)
        auction = AffineMaximizer(
            menu=shares[:, :bidders],
            boosts=torch.randn(entries, generator=source, dtype=torch.float64) * 0.1,
            weights=torch.ones(bidders, dtype=torch.float64),
        )
        artifact = quantise(auction, unit=Fraction(1, 10**6), bid_max=10**6, share_bits=16, name="1e-6")
        engine = Engine(artifact.data)
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
            f"{bidders}x{items}, menu {entries}: exact artifact {batch / times['exact']:,.0f} auctions/s, "
            f"{times['float'] / times['exact']:.2f}x torch float64; one round in the sandbox "
            f"{single['sandbox'] * 1e6:.0f} us, {single['sandbox'] / single['process']:.1f}x in process"
        )
