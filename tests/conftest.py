"""What holds in every test: shapes of `mechanisms` are checked at run time, sessions are judged in both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

from credible.simulation.agent_scenario import agent_scenario
from credible.simulation.agents import Values
from credible.simulation.market import Market
from credible.simulation.setup import Rules, Secrets
from credible.simulation.table import Table
from protocol.artifact import build
from protocol.artifact.engine import Engine
from protocol.artifact.static import CheckedArtifact
from protocol.evidence import Judge, Judgement
from protocol.session import Session
from tests import typecheck

# a slow machine is no failure
settings.register_profile("credible", deadline=None)
settings.load_profile("credible")
install_import_hook("mechanisms", f"{typecheck.__name__}.checked")

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "examples" / "data" / "tsuchiura-procurement"


@pytest.fixture(scope="session")
def second_price() -> CheckedArtifact:
    """Two items, three seats, reserves 100 and 0 on a grid of 0..1000."""
    return build.single_item_reserve([100, 0], bidders=3, bid_max=1000, share_bits=8, unit="1 cent")


@pytest.fixture(scope="session")
def lottery() -> CheckedArtifact:
    """A menu with lotteries for two bidders and one item."""
    menu = [[[0], [0]], [[256], [0]], [[0], [256]], [[128], [128]], [[100], [50]]]
    return build.menu_affine(menu, [9000, 0, 0, 2000, 7000], [2, 3], bid_max=100, share_bits=8, unit="1 cent")


def play(
    folder: Path,
    artifact: CheckedArtifact,
    *,
    rounds: int = 12,
    preset: str = "prompt",
    agent: str = "honest",
    participation: float = 0.8,
    seed: int = 3,
    q_num: int = 1,
    q_den: int = 2,
    epoch: int = 4,
    keep: bool = False,
) -> Market:
    """Play a session to its end and return the closed market; its folder can be verified."""
    from fractions import Fraction

    secrets = Secrets.seeded(seed)
    header = artifact.header
    agents = secrets.agents()
    rules = Rules(preset, rounds, q=Fraction(q_num, q_den), epoch=epoch, lag=epoch, seeded=True)
    values = Values(header.bidders, header.items, header.bid_max, participation=participation)
    scenario = agent_scenario(header, Engine(artifact.data), rules, agents, values=values, auctioneer=agent)
    with Market(folder, artifact.data, rules, scenario, secrets, config=b"{}", keep=keep) as market:
        market.run()
    return market


@pytest.fixture(autouse=True)
def judged_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a test judges a table: all at once, and epoch by epoch while the log is read (spec 8.2)."""
    at_once = Table.judge

    def judge(table: Table) -> Judgement:
        shown = at_once(table)
        if table.manifest.disclosure == "public":
            assert judge_while_reading(table) == shown
        return shown

    monkeypatch.setattr(Table, "judge", judge)


def judge_while_reading(table: Table) -> Judgement:
    """Return what a newcomer finds that judges and forgets every epoch as soon as it can."""
    entries = table.auctioneer.log.entries
    session = Session(entries[0])
    session.add_cosigned(table._cosigned())
    judge = Judge(session, table.runner)
    for index, entry in enumerate(entries[1:], 1):
        session.apply(index, entry)
        if judge.ready(index + 1, 1):
            judge.advance()
    return judge.conclude()


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory, second_price: CheckedArtifact) -> Path:
    """An honest session, prompt preset, half of the rounds audited."""
    folder = tmp_path_factory.mktemp("honest") / "session"
    play(folder, second_price)
    return folder


@pytest.fixture(scope="session")
def cheating(tmp_path_factory: pytest.TempPathFactory, second_price: CheckedArtifact) -> Path:
    """A session whose auctioneer inflates every payment and is caught."""
    folder = tmp_path_factory.mktemp("cheating") / "session"
    play(folder, second_price, agent="inflate:1.0", q_num=1, q_den=1)
    return folder
