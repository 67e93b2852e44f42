"""Play a short session through the full protocol, verify it as an outsider, then catch a cheating auctioneer."""

import tempfile
from fractions import Fraction
from pathlib import Path

from credible.simulation.agent_scenario import agent_scenario
from credible.simulation.agents import Values
from credible.simulation.market import Market, trust_path
from credible.simulation.setup import Rules, Secrets
from protocol.artifact import build
from protocol.artifact.engine import Engine
from protocol.verify import Trust, verify_path

auction = build.single_item_reserve([400], bidders=3, bid_max=1000, share_bits=16, unit="1 cent")
with tempfile.TemporaryDirectory() as name:
    for agent in ("honest", "inflate:1.0"):
        secrets = Secrets.fresh()
        folder = Path(name) / agent.partition(":")[0]
        rules = Rules("prompt", rounds=10, q=Fraction(1, 2))
        values = Values(bidders=3, items=1, bid_max=1000, participation=0.9)
        scenario = agent_scenario(
            auction.header, Engine(auction.data), rules, secrets.agents(), values=values, auctioneer=agent
        )
        with Market(folder, auction.data, rules, scenario, secrets, config=b"example") as market:
            summary = market.run()
        verdict = verify_path(folder, Trust.read(trust_path(folder)))
        print(f"{agent}: {summary.rounds} rounds, {summary.audited} audited, verdict {verdict.verdict}")
        for finding in verdict.findings[:1]:
            print(f"  spec {finding.rule}, round {finding.round}: {finding.text}")
