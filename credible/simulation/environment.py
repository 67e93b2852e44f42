"""Repeated auctions as a PettingZoo parallel environment, over any exact artifact; needs the extra `rl`.

Every bidder is an agent. It observes its values of the round and what the last round brought it, and bids a share of
the highest bid on every item. Its reward is its utility: value received less payment, both in units of the highest bid.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from pettingzoo import ParallelEnv

from credible.simulation.agents.base import Values, runs
from credible.simulation.draws import Draws
from protocol.artifact.engine import Engine
from protocol.encoding import pae
from protocol.keys import derive

Array = npt.NDArray[np.float32]


class AuctionEnv(ParallelEnv):  # type: ignore[misc] # without types
    """Rounds of one auction; an episode is a session.

    An observation holds, each from 0 to 1: the bidder's values by item, whether it takes part, the share of the session
    that is over, and its last round: bids and shares by item, and its payment as a share of what all items could cost.

    Args:
        artifact: The mechanism's bytes.
        values: What values and presence are drawn from; uniform on the whole grid if left out.
        rounds: Rounds of an episode.
        context: The public integers of every round, if the artifact takes any.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "credible_auction_v1", "render_modes": [], "is_parallelizable": True}

    def __init__(
        self, artifact: bytes, values: Values | None = None, *, rounds: int = 100, context: tuple[int, ...] = ()
    ) -> None:
        if rounds < 1:
            raise ValueError(f"{rounds} rounds, wanted at least 1")
        engine = Engine(artifact)
        self.header = header = engine.artifact.header
        self._execute = runs(engine, context)
        self._values = values or Values(header.bidders, header.items, header.bid_max)
        self._rounds = rounds
        self.possible_agents = [f"bidder_{seat}" for seat in range(header.bidders)]
        self.agents: list[str] = []
        size = 3 * header.items + 3
        self._observation = {agent: spaces.Box(0, 1, (size,), np.float32) for agent in self.possible_agents}
        self._action = {agent: spaces.Box(0, 1, (header.items,), np.float32) for agent in self.possible_agents}
        self._random = np.random.default_rng()
        self.render_mode = None

    def observation_space(self, agent: str) -> spaces.Box:
        """Return the space of an agent's observations."""
        return self._observation[agent]

    def action_space(self, agent: str) -> spaces.Box:
        """Return the space of an agent's bids, shares of the highest bid by item."""
        return self._action[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, dict[str, Any]]]:
        """Begin an episode; a seed decides the values of this one and of those after it."""
        if seed is not None:
            self._random = np.random.default_rng(seed)
            for number, agent in enumerate(self.possible_agents):
                self._action[agent].seed(seed + number)
        secret = derive(self._random.bytes(32), pae("environment", {}))
        self._draws = Draws(secret, "values", 0, 1)
        self.agents = list(self.possible_agents)
        self._index = 0
        items, bidders = self.header.items, self.header.bidders
        self._last = np.zeros((bidders, 2 * items + 1), dtype=np.float32)
        self._draw()
        return self._observations(), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, Array]
    ) -> tuple[dict[str, Array], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Play a round.

        Args:
            actions: Bids by agent, shares of the highest bid, floored to the grid; of those who take part.

        Returns:
            Observations of the next round, rewards of this one, terminations, truncations (the session is over) and
            infos: `payment` in grid units, `shares` by item.

        Raises:
            ValueError: If an agent of the round has no action, or one of another shape.
        """
        header = self.header
        if not self.agents:
            return {}, {}, {}, {}, {}
        bids = np.zeros((1, header.bidders, header.items), dtype=np.int64)
        for seat, agent in enumerate(self.agents):
            if agent not in actions or np.shape(actions[agent]) != (header.items,):
                got = np.shape(actions[agent]) if agent in actions else "none"
                raise ValueError(f"action of {agent} is {got}, wanted shape ({header.items},)")
            share = np.clip(np.nan_to_num(np.asarray(actions[agent], dtype=np.float64)), 0, 1)
            bids[0, seat] = np.floor(share * header.bid_max)
        bids *= self._present[:, :, None]
        arrays = self._execute(bids, self._present)
        shares, paid = arrays["allocation"][0], arrays["payment"][0]
        scale = header.bid_max * header.unit_share
        utility = ((shares * self._now[0]).sum(axis=1) - paid) / scale
        self._last = np.concatenate(
            [bids[0] / header.bid_max, shares / header.unit_share, paid[:, None] / (scale * header.items)], axis=1
        ).astype(np.float32)
        rewards = {agent: float(utility[seat]) for seat, agent in enumerate(self.agents)}
        infos: dict[str, dict[str, Any]] = {
            agent: {"payment": paid[seat] / header.unit_share, "shares": shares[seat] / header.unit_share}
            for seat, agent in enumerate(self.agents)
        }
        self._index += 1
        over = self._index == self._rounds
        if not over:
            self._draw()
        observations = self._observations()
        ended = dict.fromkeys(self.agents, False)
        truncated = dict.fromkeys(self.agents, over)
        if over:
            self.agents = []
        return observations, rewards, ended, truncated, infos

    def _draw(self) -> None:
        self._now, self._present = self._values.draw(self._draws, self._index)

    def _observations(self) -> dict[str, Array]:
        passed = self._index / self._rounds
        return {
            agent: np.concatenate(
                [self._now[0, seat] / self.header.bid_max, [self._present[0, seat], passed], self._last[seat]]
            ).astype(np.float32)
            for seat, agent in enumerate(self.agents)
        }
