"""Train a lottery auction for two bidders and two items, compile it, certify it, and run one round of it."""

from fractions import Fraction

import numpy as np

from mechanisms.evaluation import evaluate
from mechanisms.export import quantise
from mechanisms.training import LotteryAMA, Schedule, train
from mechanisms.training.loop import step_generator
from mechanisms.valuations import Uniform
from protocol.artifact.certify import certify
from protocol.artifact.engine import Engine

values = Uniform(bidders=2, items=2)
objective = LotteryAMA(2, 2, entries=0, start=5.0, generator=step_generator(0, 4, 0))
schedule = Schedule(200, 128, 1024, temperature_start=20.0, temperature_end=200.0, learning_rate=0.03)
train(objective, values, schedule, seed=0)
auction = objective.mechanism()
result = evaluate(auction, values, samples=50_000, seed=1)
print(f"revenue {result.revenue:.4f} +- {result.revenue_se:.4f}, regret {result.regret} ({result.regret_kind})")

artifact = quantise(auction, unit=Fraction(1, 10**6), bid_max=10**6, share_bits=16, name="1e-6 of value")
certificate = certify(artifact)
print(f"certified: {certificate.certified}; float64 magnitudes below 2^{artifact.max_bits}")

bids = np.array([[[900_000, 200_000], [300_000, 800_000]]])
arrays = Engine(artifact.data).run_arrays(bids)
print("shares", (arrays["allocation"][0] / 2**16).tolist(), "payments", (arrays["payment"][0] / 2**16 / 1e6).tolist())
