"""Both engines play the same market: winners, payments, draws, halts and money agree, agent by agent."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from credible.cli import common
from credible.simulation import agents
from credible.simulation.agent_scenario import AgentScenario, agent_scenario
from credible.simulation.agents import Values, auctioneer_agent, bidder_agents, terms
from credible.simulation.draws import Counts, Flags
from credible.simulation.economy import Coins, Economy, Played
from credible.simulation.players import Players
from credible.simulation.setup import Rules, Secrets
from credible.simulation.table import Table
from protocol.artifact import build
from protocol.artifact.engine import Engine
from protocol.artifact.static import CheckedArtifact
from protocol.randomness.lottery import draw_number

MENU = build.menu_affine(
    [[[0, 0], [0, 0], [0, 0]], [[256, 0], [0, 256], [0, 0]], [[0, 0], [256, 0], [0, 256]], [[0, 0], [0, 0], [256, 256]],
     [[128, 64], [64, 128], [32, 32]], [[0, 128], [128, 0], [100, 100]]],
    [30_000, 0, 4_000, 2_000, 9_000, 12_000], [2, 1, 1], bid_max=1000, share_bits=8, unit="1 cent",
)  # fmt: skip
SECOND = build.single_item_reserve([100, 0], bidders=3, bid_max=1000, share_bits=8, unit="1 cent")
BIDDERS = (
    "truthful", "shade:70", "noisy:30", "best-response", "exp3", "weights", "budget:5", "late:30", "silent:10",
    "ring", "ring*2,exp3", "sybil:50*2,truthful", "truthful,truthful,shill:40", "weights,shade:150,noisy:10",
)  # fmt: skip
AUCTIONEERS = (
    "honest", "inflate:0.3", "phantom:0.5", "favour:1:0.4", "threshold", "random:3", "rare:111:2", "optimal",
    "refuse:0.3", "drop:2:0.2",
)  # fmt: skip


class SessionCoins:
    """The coins that a session of the full protocol used."""

    def __init__(self, numbers: dict[int, list[int]], drawn: dict[int, list[bool]], items: int) -> None:
        self._numbers, self._drawn, self._items = numbers, drawn, items

    def lottery(self, round_index: int) -> Counts:
        return np.array([self._numbers.get(round_index, [0] * self._items)], dtype=np.int64)

    def audited(self, epoch: int) -> Flags:
        return np.array([self._drawn.get(epoch, [False] * 100)], dtype=bool)


def full_session(table: Table, scenario: AgentScenario) -> dict[int, list[int]]:
    """Play a session in memory as `Market` does; return the lottery's numbers by round."""
    numbers: dict[int, list[int]] = {}
    kind = scenario.auctioneer
    claim = kind.claim

    def recording(self: Any, round_index: int, item: Any, output: Any, seed: bytes) -> Any:
        bits = table.manifest.share_bits
        numbers[round_index] = [draw_number(seed, item_index, bits) for item_index in range(len(table.manifest.items))]
        return claim(self, round_index, item, output, seed)

    kind.claim = recording  # type: ignore[method-assign]
    table.register()
    session = table.session
    for epoch in range(table.manifest.epochs):
        for index in table.manifest.rounds_of(epoch):
            table.play_round(index, scenario.plan(index))
            scenario.settled(index, table.auctioneer.matrices[index], again=False)
        table.end_epoch(epoch)
        drawn = [index for index in session.drawn(epoch) or () if session.disclosed(index)]
        scenario.closed(epoch, drawn, session.halted_epoch == epoch)
        if session.complete:
            break
    table.release()
    return numbers


def compare(artifact: CheckedArtifact, bidders: str, auctioneer: str, seed: int, *, gains: str = "kept") -> str:
    """Play one pair in both engines and compare everything; return what happened."""
    source = random.Random(f"{bidders}/{auctioneer}/{seed}")
    preset = source.choice(("prompt", "published"))
    rounds, epoch = source.randint(3, 7), source.randint(2, 3)
    q, k = Fraction(1, source.randint(1, 3)), source.randint(1, 3)
    rules = Rules(preset, rounds, q=q, k=k, epoch=epoch, lag=epoch, seeded=True, gains=gains)
    values = Values(3, 2, 1000, participation=source.choice((1.0, 0.7)))
    secrets, engine = Secrets.seeded(seed), Engine(artifact.data)
    scenario = agent_scenario(
        artifact.header, engine, rules, secrets.agents(), values=values, bidders=bidders, auctioneer=auctioneer
    )
    table = Table(
        rules, artifact.header, artifact.file_sha256, engine, secrets, scenario.seats, auctioneer=scenario.auctioneer
    )
    numbers = full_session(table, scenario)
    session = table.session
    drawn = {
        number: [index in (session.drawn(number) or ()) for index in table.manifest.rounds_of(number)]
        for number in session.epochs
    }
    announced = terms(preset, artifact.header, rounds, k=k, q=q, epoch=epoch, gains=gains)
    assert announced.penalty == table.manifest.money.penalty
    players = Players(
        artifact.header, lambda bids, here: engine.run_arrays(bids, here.astype(np.int64)), announced, values,
        bidder_agents(bidders, 3), auctioneer_agent(auctioneer), secrets.agents(),
    )  # fmt: skip
    coins: Coins = SessionCoins(numbers, drawn, 2)
    played: list[Played] = []
    economy = Economy(players, coins, played.append)
    ledger = economy.run()
    shown = [round_ for round_ in played if round_.running[0]]
    seen = next((round_.round_index for round_ in shown if round_.submitted.dropped.any()), None)
    if seen is None:
        assert [round_.round_index for round_ in shown] == sorted(table.auctioneer.matrices)
    for round_ in shown:
        matrix = table.auctioneer.matrices[round_.round_index]
        assert matrix.seats == np.flatnonzero(round_.submitted.participation[0]).tolist()
        assert matrix.allocation == round_.allocation[0, matrix.seats].tolist()
        assert matrix.payment == round_.payment[0, matrix.seats].tolist()
        assert matrix.charge == matrix.payment
        assert matrix.won == round_.won[0].tolist()
        if seen == round_.round_index:  # the victim has its receipt, convicts and leaves; the session would go on
            assert table.tier1
            return "seen"
        assert table.auctioneer.deviated[round_.round_index] == bool(round_.deviated[0])
    assert not table.tier1
    assert table.revenue == int(sum(round_.payment.sum() for round_ in shown))
    assert (session.halted_epoch is not None) == bool(ledger.caught[0])
    paid = {key: amounts for key, amounts in table.movements if key.startswith("settlement-")}
    auctioneer_paid = -sum(amounts.get(session.auctioneer.party, 0) for amounts in paid.values())
    assert auctioneer_paid == int(ledger.penalty[0])
    own = [bidder.party for bidder in table.bidders]
    received = [sum(amounts.get(party, 0) for amounts in paid.values()) for party in own]
    assert sum(min(amount, 0) for amount in received) <= 0
    if gains == "returned":
        assert sum(received) + int(ledger.forfeited[0]) == int(ledger.returned[0])
    else:
        assert -sum(received) == int(ledger.forfeited[0])
    return "caught" if ledger.caught[0] else "deviated" if ledger.deviations[0] else "honest"


@pytest.mark.parametrize("auctioneer", AUCTIONEERS)
def test_both_engines_agree_on_every_auctioneer(auctioneer: str) -> None:
    for seed in (1, 2):
        compare(MENU, "truthful,noisy:30,shade:70", auctioneer, seed)


@pytest.mark.parametrize("bidders", BIDDERS)
def test_both_engines_agree_on_every_bidder(bidders: str) -> None:
    compare(MENU, bidders, "inflate:0.3", 3)
    compare(SECOND, bidders, "honest", 4)


def test_returned_gains_agree() -> None:
    outcomes = {compare(MENU, "truthful", "inflate:0.7", seed, gains="returned") for seed in range(8)}
    assert "caught" in outcomes


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_both_engines_agree_on_a_thousand_pairs() -> None:
    source = random.Random(7)
    outcomes = [
        compare(source.choice((MENU, SECOND)), source.choice(BIDDERS), source.choice(AUCTIONEERS), 100 + number)
        for number in range(1000)
    ]
    counted = {name: outcomes.count(name) for name in ("honest", "deviated", "caught", "seen")}
    assert min(counted.values()) > 20, counted


def test_the_help_lists_every_agent() -> None:
    for listed, known in ((common.BIDDERS, agents.BIDDERS), (common.AUCTIONEERS, agents.AUCTIONEERS)):
        names = [part.partition(":")[0].partition("*")[0] for part in listed.split(", ")]
        assert sorted(names) == sorted(known)
