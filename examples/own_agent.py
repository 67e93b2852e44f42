"""Write your own bidder and auctioneer, and play them in both engines: thousands of markets, one real session."""

import tempfile
from pathlib import Path

import numpy as np

from credible.simulation.agent_scenario import AgentScenario, executing
from credible.simulation.agents import AuctioneerAgent, Bidder, Values, runs, terms
from credible.simulation.agents.bidders import Truthful
from credible.simulation.economy import DrawnCoins, Economy
from credible.simulation.market import Market, trust_path
from credible.simulation.players import Players
from credible.simulation.setup import Rules, Secrets
from protocol.artifact import build
from protocol.artifact.engine import Engine
from protocol.verify import Trust, verify_path


class Cautious(Bidder):
    """Bids 70 % of its values, and 100 % after a round in which it won nothing."""

    def start(self, seat):
        super().start(seat)
        self.lost = np.zeros(seat.lanes, dtype=bool)  # one per market: thousands are played side by side

    def bid(self, round_index, values, present):
        return np.where(self.lost[:, None, None], values, values * 7 // 10)

    def observe(self, row):
        self.lost = row.shares.sum(axis=(1, 2)) == 0


class Greedy(AuctioneerAgent):
    """Raises every payment half way to the bidder's own bid, in every seventh round."""

    def claim(self, settling):
        if settling.round_index % 7:
            return settling.allocation, settling.payment
        return settling.allocation, (settling.payment + settling.ceilings()) // 2


auction = build.single_item_reserve([300], bidders=3, bid_max=1000, share_bits=16, unit="1 cent")
engine, values = Engine(auction.data), Values(bidders=3, items=1, bid_max=1000)
rounds = 70

# The economic engine: 2,000 markets of 70 rounds.
rules = terms("prompt", auction.header, rounds)
secret = Secrets.seeded(1).agents()
bidders = [Cautious(), Truthful(), Truthful()]
players = Players(auction.header, runs(engine), rules, values, bidders, Greedy(), secret, lanes=2000)
ledger = Economy(players, DrawnCoins(secret, rules, 1, 16, 0, 2000)).run()
earned = ledger.utility.sum(axis=1) / ledger.rounds.sum() / auction.header.unit_share
print(
    "a bidder earns per round:",
    ", ".join(f"{name} {value:.1f}" for name, value in zip(("cautious", "truthful", "truthful"), earned, strict=True)),
)
print(
    f"greed earns {ledger.profit.mean() / auction.header.unit_share:,.0f} a market, {ledger.caught.mean():.0%} halted"
)

# The full protocol: the same agents, every message real.
with tempfile.TemporaryDirectory() as name:
    secrets = Secrets.seeded(1)
    seated = Players(
        auction.header, executing(engine), rules, values, [Cautious(), Truthful(), Truthful()], Greedy(), secret
    )
    folder = Path(name) / "session"
    scenario = AgentScenario(seated)
    with Market(folder, auction.data, Rules("prompt", rounds), scenario, secrets, config=b"own") as market:
        summary = market.run()
    verdict = verify_path(folder, Trust.read(trust_path(folder)))
    print(
        f"one session: {summary.deviations_made} rounds deviate, {summary.audited} audited, verdict {verdict.verdict}"
    )
