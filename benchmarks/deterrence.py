"""Honest rounds never convicted, cheats caught at the stated rate, cheating that does not pay (spec 9, hardening 7).

    python -m benchmarks.deterrence honest --rounds 10000 --state FILE
    python -m benchmarks.deterrence catch --sessions 2000 --state FILE
    python -m benchmarks.deterrence profit

The first two play every message of the protocol and judge every log as a newcomer does; they go on from FILE.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from credible.simulation import deterrence as d
from credible.simulation.attacks.auctioneers import Overcharging
from credible.simulation.scenario import RoundPlan
from credible.simulation.setup import Rules, Secrets
from credible.simulation.table import Table
from protocol.artifact import RoundInput, RoundOutput, build
from protocol.artifact.engine import Engine
from protocol.auctioneer import Auctioneer
from protocol.penalties import auctioneer_regret, gain_bound, penalty_fixed, penalty_stream
from protocol.state import HOLDS

SMALL = build.single_item_reserve([100], bidders=2, bid_max=1000, share_bits=8, unit="1 cent")
MENU = build.menu_affine(
    [[[0, 0], [0, 0]], [[256, 256], [0, 0]], [[0, 0], [256, 256]], [[256, 0], [0, 256]], [[0, 256], [256, 0]],
     [[128, 128], [128, 128]]],
    [60_000, 0, 0, 4_000, 4_000, 9_000], [1, 1], bid_max=1000, share_bits=8, unit="1 cent",
)  # fmt: skip


def table(artifact: Any, engine: Engine, seed: int, cheat: type[Auctioneer] = Auctioneer, **rules: Any) -> Table:
    """Return a session in memory."""
    header = artifact.header
    names = [f"bidder-{seat}" for seat in range(header.bidders)]
    chosen = Rules(seeded=True, **rules)
    made = Table(chosen, header, artifact.file_sha256, engine, Secrets.seeded(seed), names, auctioneer=cheat)
    made.register()
    return made


def plan(source: random.Random, seats: int, items: int) -> RoundPlan:
    """Return a round with absent, silent and out-of-support bidders."""
    present = [seat for seat in range(seats) if source.random() < 0.85]
    bids = {seat: [source.randrange(-3, 1010) for _ in range(items)] for seat in present}
    return RoundPlan(bids, silent=frozenset(seat for seat in present if source.random() < 0.01))


def honest(rounds: int, state: Path) -> dict[str, Any]:
    """Play honest sessions of 50 rounds under every kind of rule; count convictions."""
    kept = (
        json.loads(state.read_text())
        if state.exists()
        else {"rounds": 0, "sessions": 0, "convictions": 0, "seconds": 0}
    )
    kinds: list[dict[str, Any]] = [
        {"preset": "prompt", "epoch": 10, "lag": 10, "q": Fraction(1, 5)},
        {"preset": "published", "k": 5},
        {"preset": "prompt", "epoch": 10, "lag": 10, "charge": "realised", "draw": "joint"},
        {"preset": "published", "k": 5, "profile": "P0", "support_rule": "clamp"},
        {"preset": "prompt", "epoch": 10, "lag": 10, "auditors": 2, "disclosure": "auditor", "canaries": (3, 17)},
        {"preset": "published", "k": 2, "mailboxes": 3, "faulty_mailboxes": 1, "witnesses": 4, "faulty_witnesses": 1},
    ]
    engines = [(artifact, Engine(artifact.data)) for artifact in (SMALL, MENU)]
    while kept["rounds"] < rounds:
        number, started = kept["sessions"], time.perf_counter()
        artifact, engine = engines[number % 2]
        seats = table(artifact, engine, number, rounds=50, **kinds[number % len(kinds)])
        source = random.Random(number)
        for epoch in range(seats.manifest.epochs):
            for index in seats.manifest.rounds_of(epoch):
                seats.play_round(index, plan(source, artifact.header.bidders, artifact.header.items))
            seats.end_epoch(epoch)
        shown = seats.judge()
        kept["convictions"] += len(shown.findings) + len(seats.tier1)
        if shown.waiting:
            raise SystemExit(f"session {number} is inconclusive: {shown.waiting}")
        kept["rounds"] += 50
        kept["sessions"] += 1
        kept["seconds"] += time.perf_counter() - started
        state.write_text(json.dumps(kept))
    return dict(kept)


class Ten(Overcharging):
    """Overcharges in ten rounds of a hundred, which it draws at the start."""

    chosen: frozenset[int] = frozenset()

    def claim(
        self, round_index: int, item: RoundInput, output: RoundOutput, seed: bytes
    ) -> tuple[RoundOutput, list[int]]:
        """Deviate in the chosen rounds."""
        cheating = super() if round_index in self.chosen else super(Overcharging, self)
        return cheating.claim(round_index, item, output, seed)


def catch(sessions: int, state: Path) -> dict[str, Any]:
    """Play sessions of T = 100 rounds with w = 10 deviating ones under `published`, k = 1; count the caught."""
    kept = json.loads(state.read_text()) if state.exists() else {"sessions": 0, "caught": 0, "wrong": 0, "seconds": 0}
    engine = Engine(SMALL.data)
    while kept["sessions"] < sessions:
        number, started = kept["sessions"], time.perf_counter()
        source = random.Random(number)
        chosen = frozenset(source.sample(range(100), 10))
        cheat = type("TenHere", (Ten,), {"chosen": chosen})
        seats = table(SMALL, engine, number, cheat, preset="published", rounds=100, k=1)
        for index in range(100):
            seats.play_round(index, RoundPlan({0: [900], 1: [200 + index]}))
        findings = seats.end_epoch(0)
        drawn = (seats.session.drawn(0) or [])[0]
        verdict = next(iter(seats.session.epoch(0).verdicts.values()))[1]
        kept["caught"] += bool(findings)
        kept["wrong"] += (drawn in chosen) != bool(findings) or (verdict.result == HOLDS) == bool(findings)
        kept["sessions"] += 1
        kept["seconds"] += time.perf_counter() - started
        state.write_text(json.dumps(kept))
    rate, n = kept["caught"] / kept["sessions"], kept["sessions"]
    return {**kept, "rate": rate, "error": (rate * (1 - rate) / n) ** 0.5, "theory": 0.1}


def profit(sessions: int = 200_000) -> list[dict[str, Any]]:
    """Return the profit of four strategies at the required penalty and at half of it, for both presets."""
    rounds, q, lag, rows = 100, Fraction(1, 10), 5, []
    engine, source = Engine(MENU.data), np.random.default_rng(1)
    g = gain_bound(2, 1000, 8)
    bids = source.integers(0, 1001, (2000, 2, 2)).tolist()
    outputs = engine.run([RoundInput(bids=row, participation=[1, 1], context=[]) for row in bids])
    real = np.array([auctioneer_regret(b, o.payment, 8) for b, o in zip(bids, outputs, strict=True)], dtype=float)
    worlds = {
        "every round worth g": np.full((sessions, rounds), float(g)),
        "menu, uniform bids": source.choice(real, (sessions, rounds)),
    }
    samples = {"every round worth g": np.array([float(g)]), "menu, uniform bids": real}
    for world, gains in worlds.items():
        for preset, needed in (("published", penalty_fixed(rounds, 1, g)), ("prompt", penalty_stream(q, lag, g))):
            for factor in (1.0, 0.5):
                penalty = factor * needed
                if preset == "published":
                    _, thresholds = d.optimal_fixed(samples[world], rounds, 1, penalty)
                else:
                    _, thresholds = d.optimal_stream(samples[world], rounds, float(q), lag, penalty)
                for each in d.strategies(rounds, penalty, thresholds):
                    if preset == "published":
                        won = d.play_fixed(each, gains, 1, penalty, source)
                    else:
                        won = d.play_stream(each, gains, float(q), lag, penalty, source)
                    rows.append({
                        "world": world, "preset": preset, "penalty": factor, "strategy": each.name,
                        "profit_g": float(won.mean() / g), "error_g": float(won.std() / g / len(won) ** 0.5),
                    })  # fmt: skip
    return rows


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["honest", "catch", "profit"])
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--sessions", type=int, default=2_000)
    parser.add_argument("--state", type=Path, default=Path("out/deterrence.json"))
    chosen = parser.parse_args()
    chosen.state.parent.mkdir(parents=True, exist_ok=True)
    if chosen.what == "profit":
        for row in profit():
            print(
                f"{row['world']:20} {row['preset']:9} penalty x{row['penalty']:<4} {row['strategy']:18} "
                f"{row['profit_g']:8.3f} g +- {row['error_g']:.3f}"
            )
        return
    print(
        json.dumps(
            honest(chosen.rounds, chosen.state) if chosen.what == "honest" else catch(chosen.sessions, chosen.state)
        )
    )


if __name__ == "__main__":
    main()
