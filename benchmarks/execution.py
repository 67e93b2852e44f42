"""Exact execution against float64 execution of the same auctions, what the sandbox costs, what rounding loses."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import comb

import numpy as np
import torch

from benchmarks.timing import medians
from credible import settings as store
from credible.records.values import valuation_model
from credible.runs import objective_of, schedule_of
from mechanisms.affine import AffineMaximizer, FeeNetwork, SizeBoosted, WithFee
from mechanisms.export import differential_check, quantise
from mechanisms.training import train
from mechanisms.training.loop import step_generator
from protocol.artifact import RoundInput, Sandbox
from protocol.artifact.certify import certify
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


TRAINED = (
    ("additive_2x2_uniform", "lottery-ama"),
    ("additive_2x2_uniform", "menu-network"),
    ("additive_2x2_uniform", "mbarp"),
    ("additive_2x2_uniform", "vvca"),
    ("unit_2x2_uniform", "deterministic-ama"),
    ("additive_2x5_uniform", "lottery-ama"),
    ("additive_2x5_uniform", "size-boost"),
    ("dirichlet_05_2x2", "size-boost-fee"),
    ("dirichlet_05_2x2", "lottery-ama-fee"),
    ("dirichlet_05_2x2", "ca-ama"),
)  # setting, method


def accuracy() -> None:
    """Print what the artifact of a trained member earns beside the float mechanism on the same profiles."""
    for name, method in TRAINED:
        setting, grid = store.load(name), store.load(name).grid_unit()
        values = valuation_model(setting)
        objective = objective_of(setting, method, 0)
        best = train(objective, values, replace(schedule_of(setting, method, 300), every=10**9), seed=0).best
        mechanism = objective.mechanism(best, values.scale)
        if not isinstance(mechanism, AffineMaximizer | SizeBoosted | WithFee):
            raise TypeError(f"{method} has no artifact")
        artifact = quantise(mechanism, unit=grid.unit, bid_max=grid.bid_max, share_bits=grid.share_bits, name=grid.name)
        sample = values.sample(20_000, step_generator(0, 6, 0)).numpy()
        found = differential_check(mechanism, artifact, sample, unit=grid.unit, seed=0)
        print(
            f"{name}, {method}: certified {certify(artifact).certified}, {len(artifact.data):,} bytes; revenue "
            f"{found.revenue_float:.6f} in float64, {found.revenue_exact:.6f} as executed; other allocations at "
            f"{found.other_allocations} of 20,000 profiles"
        )


def main() -> None:
    """Print the ratios, then the accuracy."""
    torch.set_num_threads(1)
    speed()
    accuracy()


def speed() -> None:
    """Print the ratios."""
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
