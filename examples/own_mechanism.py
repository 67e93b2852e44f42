"""Write your own mechanism: a menu of outcomes, a boost for each, a weight for each bidder; truthful in any case.

An affine maximizer chooses the outcome that maximizes weighted value plus boost, and charges each bidder what its
presence costs the others (docs/notation.md, AMA). Integers throughout, so what you see is what everybody runs.
"""

import numpy as np

from protocol.artifact import build
from protocol.artifact.certify import certify
from protocol.artifact.engine import Engine

WHOLE = 2**8  # shares count 256ths of an item
HALF = WHOLE // 2
#        bidder 0          bidder 1         outcome
MENU = [
    [[0, 0], [0, 0]],  #                    nothing is sold
    [[WHOLE, WHOLE], [0, 0]],  #            everything to bidder 0
    [[0, 0], [WHOLE, WHOLE]],  #            everything to bidder 1
    [[WHOLE, 0], [0, WHOLE]],  #            one item each
    [[0, WHOLE], [WHOLE, 0]],
    [[HALF, HALF], [HALF, HALF]],  #        a coin decides
]
BOOSTS = [150 * WHOLE, 0, 0, 20 * WHOLE, 20 * WHOLE, 5 * WHOLE]  # the first keeps prices up: a reserve of sorts
WEIGHTS = [1, 2]  # bidder 1 counts double, an incentive for an entrant

auction = build.menu_affine(MENU, BOOSTS, WEIGHTS, bid_max=100, share_bits=8, unit="1 euro")
certificate = certify(auction)
print(f"{auction.header.kind}, {len(auction.data):,} bytes, certified: {certificate.certified}")

engine = Engine(auction.data)
bids = np.array([[[80, 30], [40, 60]], [[90, 90], [10, 10]], [[20, 20], [20, 20]]])
result = engine.run_arrays(bids)
for bid, allocation, payment in zip(bids, result["allocation"] / WHOLE, result["payment"] / WHOLE, strict=True):
    print("bids", bid.tolist(), "shares", allocation.tolist(), "pay", payment.tolist())

# Truth is best for every bidder, whatever the others do: try every lie of bidder 0 in the first round.
lies = np.array([[[first, second], [40, 60]] for first in range(0, 101, 4) for second in range(0, 101, 4)])
outcomes = engine.run_arrays(lies)
utility = (outcomes["allocation"][:, 0] * np.array([80, 30])).sum(axis=1) - outcomes["payment"][:, 0]
honest = (result["allocation"][0, 0] * np.array([80, 30])).sum() - result["payment"][0, 0]
print(f"the best of {len(lies)} lies earns {utility.max() / WHOLE:.2f}, the truth {honest / WHOLE:.2f}")
