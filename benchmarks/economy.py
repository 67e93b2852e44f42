"""The economic engine: linear in rounds, bounded in memory, against the full protocol (adr 0009).

    python -m benchmarks.economy [--artifact FILE.onnx] [--most 10000000] [--processes 2]

Prints one JSON object a line: rounds, seconds, rounds a second, peak memory of all processes, and seconds per round
relative to the smallest run; last the full protocol's rounds a second on the same artifact.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from credible.simulation.agent_scenario import agent_scenario
from credible.simulation.agents import Values, terms
from credible.simulation.campaign import Plan, play
from credible.simulation.market import Market
from credible.simulation.setup import Rules, Secrets
from protocol.artifact.engine import Engine

ARTIFACT = Path(__file__).parents[1] / "examples" / "artifacts" / "boosts_3x10.onnx"
SESSION = 1000
FULL = 60  # rounds of the full protocol


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", type=Path, default=ARTIFACT)
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    data = options.artifact.read_bytes()
    engine = Engine(data)
    header = engine.artifact.header
    secrets = Secrets.seeded(1)
    values = Values(header.bidders, header.items, header.bid_max)
    first, rate, rounds = 0.0, 0.0, 100_000
    while rounds <= options.most:
        rules = terms("prompt", header, SESSION)
        plan = Plan(data, rules, values, "truthful", "honest", secrets.agents(), rounds // SESSION)
        _, seconds, peak = play(plan, processes=options.processes)
        each = seconds / rounds
        first = first or each
        rate = rounds / seconds
        print(json.dumps({
            "engine": "economy", "artifact": options.artifact.name, "rounds": rounds, "seconds": round(seconds, 2),
            "rounds_per_second": round(rate), "peak_rss_mib": round(peak / 2**20),
            "seconds_per_round_over_first": round(each / first, 3),
        }), flush=True)  # fmt: skip
        rounds *= 10
    with tempfile.TemporaryDirectory() as name:
        chosen = Rules("prompt", FULL, seeded=True)
        scenario = agent_scenario(header, engine, chosen, secrets.agents())
        started = time.perf_counter()
        with Market(Path(name) / "session", data, chosen, scenario, secrets, config=b"{}") as market:
            market.run()
        seconds = time.perf_counter() - started
    print(json.dumps({
        "engine": "full protocol", "rounds": FULL, "rounds_per_second": round(FULL / seconds, 1),
        "economy_over_full": round(rate * seconds / FULL),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
