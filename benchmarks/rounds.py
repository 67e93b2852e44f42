"""Rounds a second of the full protocol, 3 bidders x 10 items, and of verifying them."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from credible.simulation.agents import AgentScenario, Truthful, auctioneer_agent, uniform_values
from credible.simulation.market import Market, trust_path
from credible.simulation.setup import Rules, Secrets
from protocol.artifact import build
from protocol.verify import Trust, verify_path

ROUNDS = 200


def main() -> None:
    """Print the rates and their ratio."""
    artifact = build.single_item_reserve([500_000] * 10, bidders=3, bid_max=10**6, share_bits=16, unit="1e-6")
    secrets = Secrets.seeded(1)
    agents = secrets.agents()
    scenario = AgentScenario(
        [f"bidder-{seat}" for seat in range(3)],
        uniform_values(artifact.header, 1.0, agents),
        Truthful(),
        auctioneer_agent("honest", agents),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "session"
        for preset in ("prompt", "published"):
            folder = Path(name) / preset
            rules = Rules(preset, ROUNDS, seeded=True)
            with Market(folder, artifact.data, rules, scenario, secrets, config=b"{}") as market:
                summary = market.run()
            started = time.perf_counter()
            verdict = verify_path(folder, Trust.read(trust_path(folder)))
            verifying = time.perf_counter() - started
            print(
                f"{preset}: simulate {ROUNDS / summary.seconds:.0f} rounds/s, verify {ROUNDS / verifying:.0f} rounds/s "
                f"({summary.seconds / verifying:.1f}x), {summary.audited} audited, verdict {verdict.verdict}"
            )
