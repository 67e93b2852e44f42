"""Play a short session through the full protocol, verify it as an outsider, then catch a cheating auctioneer."""

import tempfile
from fractions import Fraction
from pathlib import Path

from credible.simulation.agents import AgentScenario, Truthful, auctioneer_agent, uniform_values
from credible.simulation.market import Market, trust_path
from credible.simulation.setup import Rules, Secrets
from protocol.artifact import build
from protocol.verify import Trust, verify_path

auction = build.single_item_reserve([400], bidders=3, bid_max=1000, share_bits=16, unit="1 cent")
with tempfile.TemporaryDirectory() as name:
    for agent in ("honest", "inflate:1.0"):
        secrets = Secrets.fresh()
        scenario = AgentScenario(
            seats=["ada", "ben", "cyn"],
            values=uniform_values(auction.header, 0.9, secrets.agents()),
            bidder=Truthful(),
            auctioneer=auctioneer_agent(agent, secrets.agents()),
        )
        folder = Path(name) / agent.partition(":")[0]
        rules = Rules("prompt", rounds=10, q=Fraction(1, 2))
        with Market(folder, auction.data, rules, scenario, secrets, config=b"example") as market:
            summary = market.run()
        verdict = verify_path(folder, Trust.read(trust_path(folder)))
        print(f"{agent}: {summary.rounds} rounds, {summary.audited} audited, verdict {verdict.verdict}")
        for finding in verdict.findings[:1]:
            print(f"  spec {finding.rule}, round {finding.round}: {finding.text}")
