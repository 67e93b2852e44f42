"""The PettingZoo environment passes PettingZoo's own tests, and pays what the artifact says."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from credible.simulation.agents import Values
from credible.simulation.environment import AuctionEnv
from protocol.artifact import build

pytest.importorskip("pettingzoo")
from pettingzoo.test import parallel_api_test, parallel_seed_test

SECOND = build.single_item_reserve([100, 0], bidders=3, bid_max=1000, share_bits=8, unit="1 cent")


def make(participation: float = 1.0) -> AuctionEnv:
    return AuctionEnv(SECOND.data, Values(3, 2, 1000, participation=participation), rounds=20)


@pytest.mark.parametrize("participation", [1.0, 0.6])
def test_pettingzoo_accepts_it(participation: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        parallel_api_test(make(participation), num_cycles=200)
        parallel_seed_test(lambda: make(participation))


def test_rewards_are_utilities_and_absent_bidders_get_nothing() -> None:
    env = make(0.5)
    seen, _ = env.reset(seed=3)
    absent = 0
    while env.agents:
        before = seen
        seen, rewards, _, truncated, infos = env.step({agent: seen[agent][:2] for agent in env.agents})
        for agent, reward in rewards.items():
            values, here = before[agent][:2].astype(float), before[agent][2]
            due = float((values * infos[agent]["shares"]).sum()) - infos[agent]["payment"] / 1000
            assert reward == pytest.approx(due, abs=1e-6)
            assert reward >= -1e-9
            if not here:
                absent += 1
                assert reward == 0
    assert absent > 5
    assert all(truncated.values())


def test_wrong_actions_are_refused() -> None:
    env = make()
    env.reset(seed=1)
    with pytest.raises(ValueError, match="bidder_1 is none"):
        env.step({"bidder_0": np.zeros(2, dtype=np.float32)})
    with pytest.raises(ValueError, match=r"wanted shape \(2,\)"):
        env.step({agent: np.zeros(3, dtype=np.float32) for agent in env.agents})
    with pytest.raises(ValueError, match="at least 1"):
        AuctionEnv(SECOND.data, rounds=0)
    with pytest.raises(ValueError, match="context"):
        AuctionEnv(SECOND.data, context=(1,))
