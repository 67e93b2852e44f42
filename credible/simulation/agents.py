"""Agents: bidders that see their own values, auctioneers that see what the protocol shows them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from credible.simulation.scenario import RoundPlan
from protocol.artifact import Header, RoundInput, RoundOutput
from protocol.auctioneer import Auctioneer
from protocol.encoding import pae
from protocol.keys import derive

Values = list[list[int] | None]  # by seat; None for a bidder that stays away


def generator(secret: bytes, purpose: str, round_index: int) -> random.Random:
    """Return a generator for one purpose and round: resuming and replaying draw the same."""
    material = derive(secret, pae("agent", {"purpose": purpose, "round": round_index}))
    return random.Random(int.from_bytes(material, "big"))  # noqa: S311 - plays agents; secrets come from `derive`


class BidderAgent(Protocol):
    """A bidder: sees its own values and the public context, returns its bids."""

    def bid(self, round_index: int, values: list[int], context: Sequence[int]) -> list[int] | None:
        """Return one integer per item in grid units, or None to stay away."""
        ...


@dataclass(frozen=True, slots=True)
class Truthful:
    """Bids its values."""

    def bid(self, round_index: int, values: list[int], context: Sequence[int]) -> list[int] | None:
        """Return the values."""
        return values


@dataclass(frozen=True, slots=True)
class Shading:
    """Bids a fixed percentage of its values."""

    percent: int

    def bid(self, round_index: int, values: list[int], context: Sequence[int]) -> list[int] | None:
        """Return the values times the percentage, floored."""
        return [value * self.percent // 100 for value in values]


class Inflating(Auctioneer):
    """Raises every payment of some rounds to the bidder's own bid: tier 1 cannot see it (spec 1.5)."""

    rate = 0.1
    secret = b""

    def claim(
        self, round_index: int, item: RoundInput, output: RoundOutput, seed: bytes
    ) -> tuple[RoundOutput, list[int]]:
        """Publish the honest result, or in a chosen round the result with payments at the own bid."""
        output, won = super().claim(round_index, item, output, seed)
        if generator(self.secret, "inflate", round_index).random() < self.rate:
            payment = [
                sum(share * bid for share, bid in zip(shares, bids, strict=True))
                for shares, bids in zip(output.allocation, item.bids, strict=True)
            ]
            output = RoundOutput(allocation=output.allocation, payment=payment)
        return output, won


class Rare(Inflating):
    """Raises the payments of some rounds with one participation profile, which an audit may well never meet."""

    mask = ""
    limit = 0

    def claim(
        self, round_index: int, item: RoundInput, output: RoundOutput, seed: bytes
    ) -> tuple[RoundOutput, list[int]]:
        """Publish the honest result, or in one of the first rounds with the profile payments at the own bid."""
        here = "".join(str(bit) for bit in item.participation)
        cheats = here == self.mask and sum(self.deviated.values()) < self.limit
        self.rate = float(cheats)
        return super().claim(round_index, item, output, seed)


def auctioneer_agent(spec: str, secret: bytes) -> type[Auctioneer]:
    """Return the auctioneer behind `honest`, `inflate[:RATE]` or `rare:PROFILE:ROUNDS`.

    Raises:
        ValueError: For another text.
    """
    name, _, argument = spec.partition(":")
    if name == "honest" and not argument:
        return Auctioneer
    if name == "inflate":
        rate = float(argument or "0.1")
        if not 0 < rate <= 1:
            raise ValueError(f"rate of inflated rounds is {rate}, wanted above 0 and at most 1")
        return type("Inflating", (Inflating,), {"rate": rate, "secret": secret})
    if name == "rare":
        mask, _, rounds = argument.partition(":")
        if not mask or set(mask) - {"0", "1"} or not (rounds.isascii() and rounds.isdigit() and int(rounds)):
            raise ValueError(f"auctioneer agent {spec!r}, wanted rare:PROFILE:ROUNDS, one digit a seat (rare:101:10)")
        return type("Rare", (Rare,), {"mask": mask, "limit": int(rounds), "secret": secret})
    raise ValueError(f"auctioneer agent {spec!r}, wanted honest, inflate[:RATE] or rare:PROFILE:ROUNDS")


def bidder_agent(spec: str) -> BidderAgent:
    """Return the bidder behind `truthful` or `shade:PERCENT`; raise ValueError for another text."""
    name, _, argument = spec.partition(":")
    if name == "truthful" and not argument:
        return Truthful()
    if name == "shade" and argument.isascii() and argument.isdigit() and 0 < int(argument) <= 100:
        return Shading(int(argument))
    raise ValueError(f"bidder agent {spec!r}, wanted truthful or shade:PERCENT")


def uniform_values(header: Header, participation: float, secret: bytes) -> Callable[[int], Values]:
    """Return values drawn uniformly from the whole grid, each bidder present with a fixed chance."""

    def draw(round_index: int) -> Values:
        source = generator(secret, "uniform", round_index)
        values: Values = []
        for _ in range(header.bidders):
            here = source.random() < participation
            row = [source.randrange(header.bid_max + 1) for _ in range(header.items)]
            values.append(row if here else None)
        return values

    return draw


def sampled_values(rounds: Sequence[Values], secret: bytes, participation: float = 1.0) -> Callable[[int], Values]:
    """Return values drawn from recorded rounds, with replacement, each of their bidders present with a fixed chance."""

    def draw(round_index: int) -> Values:
        source = generator(secret, "sample", round_index)
        chosen = rounds[source.randrange(len(rounds))]
        return [row if source.random() < participation else None for row in chosen]

    return draw


def attended_values(values: Callable[[int], Values], present: Sequence[Sequence[bool]]) -> Callable[[int], Values]:
    """Return the values of those who come, round by round as listed; seats without values stay away in any case."""

    def draw(round_index: int) -> Values:
        return [row if here else None for row, here in zip(values(round_index), present[round_index], strict=True)]

    return draw


@dataclass(frozen=True)
class AgentScenario:
    """A simulated market: values by round, one bidder agent for all seats, one auctioneer agent."""

    seats: list[str]
    values: Callable[[int], Values]
    bidder: BidderAgent
    auctioneer: type[Auctioneer]

    def plan(self, round_index: int) -> RoundPlan:
        """Ask every present bidder for its bids."""
        bids = {}
        for seat, values in enumerate(self.values(round_index)):
            chosen = None if values is None else self.bidder.bid(round_index, values, ())
            if chosen is not None:
                bids[seat] = chosen
        return RoundPlan(bids)
