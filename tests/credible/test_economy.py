"""Both engines play the same market: winners, payments, draws, halts and money agree, agent by agent."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credible.cli import common
from credible.simulation import agents
from credible.simulation.agent_scenario import AgentScenario, agent_scenario
from credible.simulation.agents import Settling, Values, auctioneer_agent, bidder_agents, runs, terms
from credible.simulation.agents.auctioneers import extraction
from credible.simulation.deterrence import exhaustive_fixed, optimal_epochs, steady_epochs
from credible.simulation.draws import Counts, Draws, Flags
from credible.simulation.economy import Coins, DrawnCoins, Economy, Played
from credible.simulation.market import Market
from credible.simulation.players import Players
from credible.simulation.setup import Rules, Secrets
from credible.simulation.table import Table
from protocol.artifact import build
from protocol.artifact.engine import Engine
from protocol.artifact.static import CheckedArtifact
from protocol.escrow import ESCROW
from protocol.penalties import detection_fixed, detection_independent
from protocol.randomness.lottery import draw_many, draw_number, draw_winners
from protocol.state import Finding

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
    "refuse:0.3", "drop:2:0.2", "swap",
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


SWAP: list[Path] = []


def compare(artifact: CheckedArtifact, bidders: str, auctioneer: str, seed: int, *, gains: str = "kept") -> str:
    """Play one pair in both engines and compare everything; return what happened."""
    source = random.Random(f"{bidders}/{auctioneer}/{seed}")
    if auctioneer == "swap":
        auctioneer = f"swap:{SWAP[0]}:0.5"
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
        artifact.header, runs(engine), announced, values,
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
        assert table.auctioneer.deviated[round_.round_index] == bool(round_.deviated[0]) or seen is not None
    if seen is not None:  # the victim convicts with its receipt, and the market ends; the session leaves that to it
        assert {finding.rule for finding in table.tier1} == {"3.6"}
        return "seen"
    assert not table.tier1
    assert table.revenue == int(sum(round_.payment.sum() for round_ in shown))
    assert (session.halted_epoch is not None) == bool(ledger.caught[0])
    paid = {key: amounts for key, amounts in table.movements if key.startswith("settlement-")}
    auctioneer_paid = -sum(amounts.get(session.auctioneer.party, 0) for amounts in paid.values())
    assert auctioneer_paid == int(ledger.penalty[0])
    received = [sum(amounts.get(bidder.party, 0) for amounts in paid.values()) for bidder in table.bidders]
    assert sum(received) == int(ledger.returned[0]) - int(ledger.forfeited[0])
    for agent, (bidder, seats) in enumerate(zip(players.bidders, players.seats, strict=True)):
        parties = {table.bidders[seat].party for seat in seats}
        charged = sum(
            amounts.get(ESCROW, 0)
            for key, amounts in table.movements
            if key.startswith("round-") and key.rpartition("-")[2] in parties
        )
        worth = sum(
            int(bidder.worth(round_.submitted.values[:, seats], round_.allocation[:, seats]).sum()) for round_ in shown
        )
        assert int(ledger.utility[agent, 0]) == worth - charged + sum(received[seat] for seat in seats)
    return "caught" if ledger.caught[0] else "deviated" if ledger.deviations[0] else "honest"


OTHER = build.single_item_reserve([700, 900], bidders=3, bid_max=1000, share_bits=8, unit="1 cent")


@pytest.fixture(scope="module", autouse=True)
def swapped(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The artifact that `swap` runs instead."""
    SWAP.append(tmp_path_factory.mktemp("swap") / "other.onnx")
    SWAP[0].write_bytes(OTHER.data)


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


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=60)
def test_winners_in_arrays_are_those_one_by_one(seats: int, items: int, seed: int) -> None:
    source = np.random.default_rng(seed)
    whole = 1 << 16
    cuts = np.sort(source.integers(0, whole + 1, (3, seats + 1, items)), axis=1)
    allocation = np.diff(np.concatenate([np.zeros((3, 1, items), dtype=np.int64), cuts], axis=1), axis=1)[:, :seats]
    for index, shares in enumerate(allocation):
        seed_bytes = bytes([index]) * 32
        numbers = np.array([[draw_number(seed_bytes, item, 16) for item in range(items)]])
        assert draw_many(shares[None], numbers)[0].tolist() == draw_winners(shares.tolist(), seed_bytes, 16, "per_item")


@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 9), st.integers(0, 10**6))
def test_a_lane_alone_draws_what_it_draws_among_many(first: int, lanes: int, columns: int, seed: int) -> None:
    secret = seed.to_bytes(32, "big")
    many = Draws(secret, "test", 0, first + lanes)
    few = Draws(secret, "test", first, lanes)
    assert (many.uniform(3, columns)[first:] == few.uniform(3, columns)).all()
    assert not (many.uniform(3, columns) == many.uniform(4, columns)).all()
    assert not (many.uniform(3, columns) == many.other("else").uniform(3, columns)).all()


def players(
    artifact: CheckedArtifact, bidders: str, auctioneer: str, lanes: int, first: int = 0, **rules: Any
) -> Players:
    announced = terms(rules.pop("preset", "prompt"), artifact.header, rules.pop("rounds", 20), **rules)
    header = artifact.header
    return Players(
        header, runs(Engine(artifact.data)), announced, Values(header.bidders, header.items, header.bid_max),
        bidder_agents(bidders, header.bidders), auctioneer_agent(auctioneer), b"\1" * 32, first, lanes,
    )  # fmt: skip


def play_lanes(seated: Players, first: int = 0) -> Economy:
    header = seated.header
    coins = DrawnCoins(b"\1" * 32, seated.rules, header.items, header.share_bits, first, seated.lanes)
    economy = Economy(seated, coins)
    economy.run()
    return economy


@pytest.mark.parametrize("auctioneer", ["optimal", "random:3", "rare:111:2", "drop:1:0.3"])
def test_lanes_do_not_touch_each_other(auctioneer: str) -> None:
    bidders = "exp3,weights,budget:5"
    together = play_lanes(players(MENU, bidders, auctioneer, 6)).ledger
    for lane in (0, 3, 5):
        alone = play_lanes(players(MENU, bidders, auctioneer, 1, lane), lane).ledger
        for name in ("rounds", "revenue", "welfare", "deviations", "penalty", "caught", "profit"):
            assert getattr(together, name)[lane] == getattr(alone, name)[0], (name, lane)


@pytest.mark.parametrize("preset", ["prompt", "published"])
@pytest.mark.parametrize("auctioneer", ["inflate:1", "threshold", "random:2", "favour:0:0.5", "swap"])
def test_cheating_does_not_pay_at_the_required_penalty(preset: str, auctioneer: str, tmp_path: Path) -> None:
    if auctioneer == "swap":
        other = tmp_path / "other.onnx"
        free = build.single_item_reserve([900, 900], bidders=3, bid_max=1000, share_bits=8, unit="1 cent")
        other.write_bytes(free.data)
        auctioneer = f"swap:{other}:0.5"
    economy = play_lanes(players(MENU, "truthful", auctioneer, 400, preset=preset, k=3))
    profit = economy.ledger.profit.astype(float)
    if (auctioneer, preset) == ("threshold", "published"):  # F / T is above g: nothing is worth it
        assert economy.ledger.deviations.sum() == 0
        return
    assert economy.ledger.deviations.sum() > 0
    assert profit.mean() + 3 * profit.std() / 20 < 0


def test_the_best_cheat_stops_paying_exactly_where_spec_9_says() -> None:
    for preset, q, k in (("prompt", Fraction(1, 4), 1), ("published", Fraction(1), 2)):
        rules = terms(preset, MENU.header, 12, q=q, k=k, epoch=3)
        missed = np.array([
            1 - float(detection_fixed(rules.epoch, k, w) if preset == "published" else detection_independent(q, w))
            for w in range(rules.epoch + 1)
        ])  # fmt: skip
        shares = [f * rules.penalty / rules.gain_bound for f in (0.5, 1, 2)]
        value = [optimal_epochs(np.ones(1), [missed] * rules.epochs, share)[0] for share in shares]
        assert value == pytest.approx([steady_epochs([missed] * rules.epochs, share) for share in shares])
        assert value[0] > 0
        assert value[1] == value[2] == 0


@pytest.mark.parametrize(("rounds", "k", "penalty"), [(4, 1, 3), (5, 2, 2), (6, 3, 4)])
def test_the_dynamic_programme_equals_enumeration(rounds: int, k: int, penalty: int) -> None:
    missed = np.array([1 - float(detection_fixed(rounds, k, w)) for w in range(rounds + 1)])
    value = optimal_epochs(np.ones(1), [missed], penalty)[0]
    assert value == pytest.approx(float(exhaustive_fixed(rounds, k, [1] * rounds, Fraction(penalty))), abs=1e-12)


def test_the_optimal_cheater_earns_what_its_programme_promises_and_more_than_others() -> None:
    factor = Fraction(1, 20)
    earned = {}
    for auctioneer in ("optimal", "threshold", "random:2", "inflate:0.3"):
        economy = play_lanes(players(MENU, "truthful", auctioneer, 3000, factor=factor, q=Fraction(1, 3)))
        profit = economy.ledger.profit.astype(float)
        earned[auctioneer] = (profit.mean(), profit.std() / len(profit) ** 0.5)
    best, error = earned.pop("optimal")
    assert best > 0
    assert all(best + 3 * (error + other_error) > other for other, other_error in earned.values())


def test_without_audits_nothing_is_caught_and_an_adaptive_shill_takes_the_surplus() -> None:
    default = play_lanes(players(SECOND, "truthful", "inflate:1", 100, preset="default")).ledger
    assert default.caught.sum() == 0
    assert default.profit.sum() == (default.revenue - default.honest).sum() > 0
    with pytest.raises(ValueError, match="commitments"):
        players(SECOND, "truthful,truthful,adaptive-shill", "honest", 2)
    shilled = play_lanes(players(SECOND, "truthful,truthful,adaptive-shill", "honest", 100, preset="default")).ledger
    assert shilled.revenue.sum() > 0.98 * shilled.welfare.sum()


def test_learners_find_truth_where_it_is_best_and_shading_where_it_is_not() -> None:
    first = build.first_price(bidders=2, bid_max=1000, share_bits=8, unit="1 cent", procurement=False)
    second = build.single_item_reserve([0], bidders=2, bid_max=1000, share_bits=8, unit="1 cent")
    ratios = {}
    for name, artifact, context in (("first", first, (0,)), ("second", second, ())):
        announced = terms("prompt", artifact.header, 3000, q=Fraction(1, 2))
        seated = Players(
            artifact.header, runs(Engine(artifact.data), context), announced, Values(2, 1, 1000),
            bidder_agents("exp3,weights", 2), auctioneer_agent("honest"), b"\2" * 32, 0, 30, context,
        )  # fmt: skip
        bids, values = play_lanes(seated).bidding[:, :, -20:]
        ratios[name] = bids.sum(axis=1) / values.sum(axis=1)
        best = bidder_agents("best-response,truthful", 2)
        Players(artifact.header, seated.execute, announced, Values(2, 1, 1000), best, auctioneer_agent("honest"),
                b"\2" * 32, context=context)  # fmt: skip
        ratios[f"{name} best"] = [getattr(best[0], "percent") / 100]  # noqa: B009 - of a subclass
    assert ((ratios["second"] > 0.86) & (ratios["second"] < 1.06)).all()
    assert (ratios["first"] < 0.65).all()
    assert ratios["second best"] == [1.0]
    assert ratios["first best"][0] in (0.5, 0.6)  # the equilibrium of two bidders shades to a half


def test_budgets_rings_and_sybils_do_what_they_are_for() -> None:
    paid = {
        bidders: play_lanes(players(SECOND, bidders, "honest", 50, rounds=100)).ledger
        for bidders in ("truthful", "ring", "budget:2", "silent:100", "late:100", "sybil:100*2,truthful")
    }
    assert paid["ring"].revenue.sum() < paid["truthful"].revenue.sum() / 2  # only the reserve is left
    assert paid["ring"].utility.sum() > paid["truthful"].utility.sum()
    assert paid["budget:2"].revenue.sum() < paid["truthful"].revenue.sum() / 2
    assert (paid["silent:100"].forfeited == 3 * players(SECOND, "truthful", "honest", 1).rules.gain_bound).all()
    assert paid["silent:100"].revenue.sum() == paid["late:100"].revenue.sum() == 0
    assert paid["late:100"].forfeited.sum() == 0
    assert paid["sybil:100*2,truthful"].utility[0].sum() < paid["truthful"].utility[0].sum()  # it outbids itself


OWN = '''
import numpy as np
from credible.simulation.agents import AuctioneerAgent, Bidder


class Half(Bidder):
    """Bids half of its values, and all of them once it has lost a round."""

    def start(self, seat):
        super().start(seat)
        self.eager = np.zeros(seat.lanes, dtype=bool)

    def bid(self, round_index, values, present):
        return np.where(self.eager[:, None, None], values, values // 2)

    def observe(self, row):
        self.eager |= row.present[:, 0] & (row.shares.sum(axis=(1, 2)) == 0)


class Greedy(AuctioneerAgent):
    def claim(self, settling):
        return settling.allocation, settling.ceilings() + 1


class Wild(Bidder):
    def bid(self, round_index, values, present):
        return values * 2
'''


def test_agents_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    half = play_lanes(players(SECOND, f"{file}:Half", "honest", 20))
    assert 0.5 < half.bidding[0].sum() / half.bidding[1].sum() < 1
    greedy = play_lanes(players(SECOND, "truthful", f"{file}:Greedy", 20)).ledger
    assert (greedy.caught == 1).all()  # every bidder sees a payment above its bid
    assert (greedy.seen > 0).all()
    with pytest.raises(ValueError, match="wanted 0 to 1000"):
        play_lanes(players(SECOND, f"{file}:Wild", "honest", 20))
    for spec in (f"{file}:Missing", f"{file}:Greedy", f"{tmp_path / 'none.py'}:Half", "nobody", "shade:x", "shade:1:2"):
        with pytest.raises(ValueError, match="agent|wanted|no such file"):
            bidder_agents(spec, 3)
    for spec in ("truthful,truthful", "ring*2", "truthful*4", "ring*x,truthful"):
        with pytest.raises(ValueError, match="seats"):
            bidder_agents(spec, 3)
    for spec in ("favour:3:1", "drop:9:1", "random:21"):
        with pytest.raises(ValueError, match="seat|wanted"):
            players(SECOND, "truthful", spec, 1)


def test_exp3_is_told_the_order_of_what_it_earns() -> None:
    auction = build.single_item_reserve([0], bidders=2, bid_max=1000, share_bits=8, unit="1 cent")
    learner: Any = players(auction, "exp3", "honest", 1).bidders[0]
    worst = -int(0.2 * learner.largest)
    earned = np.array([worst, 0, int(0.3 * learner.largest), int(learner.largest)])
    told = learner.reward(earned)
    assert (np.diff(told) > 0).all()
    assert told[0] == pytest.approx(0, abs=1e-3)
    assert told[-1] == pytest.approx(1)


@pytest.mark.parametrize(("rounds", "epoch"), [(6, 5), (21, 20), (11, 10), (7, 3)])
def test_the_optimal_cheater_plans_short_last_epochs_and_earns_what_it_planned(rounds: int, epoch: int) -> None:
    factor, q = Fraction(1, 25), Fraction(1, 3)
    seated = players(MENU, "truthful", "optimal", 6000, rounds=rounds, epoch=epoch, q=q, factor=factor)
    profit = play_lanes(seated).ledger.profit.astype(float)
    values, present = Values(3, 2, 1000).draw(Draws(b"\1" * 32, "prior", 0, 4000), 0)
    arrays = seated.execute(values, present)
    settling = Settling(0, present[:, 0], values, present, arrays["allocation"], arrays["payment"], 256)
    sample = (extraction(settling, np.ones(3, dtype=bool))[1] - arrays["payment"]).sum(axis=1).astype(float)
    planned = optimal_epochs(sample, seated.rules.missed_by_epoch(), float(seated.rules.penalty))[0]
    error = profit.std() / len(profit) ** 0.5
    assert planned > 0
    assert abs(profit.mean() - planned) < 4 * error + 0.05 * planned  # the sample of gains is finite


def test_shills_are_no_revenue_to_gain() -> None:
    bidders = "truthful,truthful,shill:80"
    ledger = play_lanes(players(SECOND, bidders, "optimal", 300, factor=Fraction(1, 10))).ledger
    assert ledger.profit.mean() >= 0
    free: dict[str, Any] = {"gains": "returned", "q": Fraction(1), "factor": Fraction(0)}
    returned = play_lanes(players(SECOND, bidders, "inflate:1", 50, **free)).ledger
    assert (returned.profit == 0).all()
    assert (returned.returned == returned.revenue - returned.honest).all()
    assert returned.returned.sum() > 0


IN_PLACE = """
from credible.simulation.agents import AuctioneerAgent, Bidder


class Sneaky(AuctioneerAgent):
    def claim(self, settling):
        settling.payment[:] = settling.ceilings()
        return settling.allocation, settling.payment


class Floats(AuctioneerAgent):
    def claim(self, settling):
        return settling.allocation, settling.payment * 1.0


class Odd(AuctioneerAgent):
    def claim(self, settling):
        return None


class Forgetful(Bidder):
    def start(self, seat):
        pass

    def bid(self, round_index, values, present):
        return values.tolist()


class Peeking(Bidder):
    peeks = True
"""


def test_agents_cannot_change_what_they_are_compared_with(tmp_path: Path) -> None:
    file = tmp_path / "sneaky.py"
    file.write_text(IN_PLACE)
    for name, text in (("Sneaky", "read-only"), ("Floats", "wanted integers"), ("Odd", "Odd failed")):
        with pytest.raises(ValueError, match=text):
            play_lanes(players(SECOND, "truthful", f"{file}:{name}", 3))
    play_lanes(players(SECOND, f"{file}:Forgetful", "honest", 3))  # a list is as good as an array
    with pytest.raises(ValueError, match="commitments"):
        players(SECOND, f"{file}:Peeking", "honest", 3)
    file.write_text("def (")
    with pytest.raises(ValueError, match="does not load"):
        bidder_agents(f"{file}:Half", 3)


class StopSession(Exception):
    """Stops a session in the middle."""


@pytest.mark.parametrize("preset", ["prompt", "published"])
@pytest.mark.parametrize(
    ("bidders", "auctioneer"),
    [
        ("exp3", "optimal"), ("weights", "random:3"), ("budget:5", "rare:111:2"), ("late:30", "refuse:0.3"),
        ("silent:10", "drop:1:0.4"), ("exp3,weights,noisy:10", "inflate:0.2"), ("ring*2,exp3", "phantom:0.3"),
    ],
)  # fmt: skip
def test_an_interrupted_session_goes_on_as_it_would_have(
    bidders: str, auctioneer: str, preset: str, tmp_path: Path
) -> None:
    rules = Rules(preset, 9, q=Fraction(1, 5), k=2, epoch=3, lag=3, seeded=True)
    values, engine = Values(3, 2, 1000, participation=0.9), Engine(MENU.data)

    def play(folder: Path, *stops: int) -> tuple[bytes, int, int, list[Finding]]:
        for number, stop in enumerate([*stops, 1000]):
            secrets = Secrets.seeded(8)
            scenario = agent_scenario(
                MENU.header, engine, rules, secrets.agents(), values=values, bidders=bidders, auctioneer=auctioneer
            )
            with Market(folder, MENU.data, rules, scenario, secrets, config=b"x", resume=number > 0) as market:

                def progress(done: int, stop: int = stop) -> None:
                    if done >= stop:
                        raise StopSession

                try:
                    summary = market.run(progress)
                except StopSession:
                    continue
                root = market.auctioneer.log.tree.root()
                return root, summary.revenue, summary.deviations_made, summary.tier1
        raise AssertionError("never ended")

    whole = play(tmp_path / "whole")
    assert play(tmp_path / "once", 4) == whole
    assert play(tmp_path / "often", 1, 3, 5, 7) == whole


def test_learners_do_not_read_what_is_sealed_to_auditors(tmp_path: Path) -> None:
    engine = Engine(MENU.data)
    moved = {}
    for disclosure, auditors in (("public", 1), ("auditor", 2)):
        rules = Rules("prompt", 6, q=Fraction(1), epoch=3, lag=3, seeded=True, disclosure=disclosure, auditors=auditors)
        secrets = Secrets.seeded(8)
        scenario = agent_scenario(MENU.header, engine, rules, secrets.agents(), bidders="weights")
        with Market(tmp_path / disclosure, MENU.data, rules, scenario, secrets, config=b"x") as market:
            market.run()
        learner: Any = scenario.players.bidders[0]
        moved[disclosure] = bool(learner.weights.any())
    assert moved == {"public": True, "auditor": False}


def test_nobody_is_silent_where_openings_come_with_the_bids() -> None:
    rules = Rules("prompt", 6, profile="P0", seeded=True)
    with pytest.raises(ValueError, match="P0"):
        agent_scenario(MENU.header, Engine(MENU.data), rules, b"\0" * 32, bidders="silent:10")
