"""A bidder learns by policy gradient how much of its value to bid: all of it where truth is best, half where it is not.

Needs the extra `rl`. The rival is truthful in both auctions; against it the best bid in a first-price auction is half
of the value, and in a second-price auction the value itself.
"""

import numpy as np

from credible.simulation.environment import AuctionEnv
from protocol.artifact import build


def learn(env: AuctionEnv, episodes: int = 80, rate: float = 6.0, noise: float = 0.08, seed: int = 0) -> float:
    """Return the share of its value that bidder 0 bids in the end (REINFORCE, Williams 1992)."""
    source = np.random.default_rng(seed)
    share = 0.75
    for episode in range(episodes):
        seen, _ = env.reset(seed=seed if episode == 0 else None)
        scores, rewards = [], []
        while env.agents:
            tried = share + noise * source.standard_normal()
            bids = {"bidder_0": np.clip(tried * seen["bidder_0"][:1], 0, 1), "bidder_1": seen["bidder_1"][:1]}
            seen, reward, _, _, _ = env.step(bids)
            scores.append((tried - share) / noise**2)
            rewards.append(reward["bidder_0"])
        gradient = np.mean((np.array(rewards) - np.mean(rewards)) * np.array(scores))
        share = float(np.clip(share + rate / (10 + episode) * gradient, 0.05, 1.25))
    return share


if __name__ == "__main__":
    second = build.single_item_reserve([0], bidders=2, bid_max=10**6, share_bits=16, unit="1e-6")
    first = build.first_price(bidders=2, bid_max=10**6, share_bits=16, unit="1e-6", procurement=False)
    print(f"second price: bids {learn(AuctionEnv(second.data, rounds=250)):.3f} of its value")
    print(f"first price: bids {learn(AuctionEnv(first.data, rounds=250, context=(0,))):.3f} of its value")
