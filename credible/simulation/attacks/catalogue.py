"""What an attack is, what is observed of it, and the stage it plays on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from credible.simulation.scenario import RoundPlan
from credible.simulation.setup import Rules, Secrets
from credible.simulation.table import Table
from protocol.artifact import build
from protocol.artifact.engine import Engine
from protocol.artifact.static import CheckedArtifact
from protocol.auctioneer import Auctioneer
from protocol.evidence import Judgement

CAUGHT: Final = "caught"  # classes D and S of the specification: an honest party convicts
PREVENTED: Final = "prevented"  # class P: it is refused, or gains nothing
OPEN: Final = "open"  # stated or priced

BIDS: Final[Mapping[int, list[int]]] = {0: [500, 0], 1: [300, 700], 2: [50, 40]}


@dataclass(frozen=True, slots=True)
class Observed:
    """What came of an attack.

    Attributes:
        status: `CAUGHT`, `PREVENTED` or `OPEN`.
        rule: Number of the rule that settles it, of docs/spec.md.
        evidence: What shows it: the finding, the refusal, or the measured figure.
        baseline: Whether the same run without the attack passes.
        figures: Measured figures, by name.
    """

    status: str
    rule: str
    evidence: str
    baseline: bool = True
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attack:
    """A row of the catalogue."""

    id: str
    who: str
    name: str
    text: str
    run: Callable[[Stage], Observed]


_CATALOGUE: Final[dict[str, Attack]] = {}


def attack(number: int, who: str, text: str) -> Callable[[Callable[[Stage], Observed]], Callable[[Stage], Observed]]:
    """Register an adversary under its row of docs/spec.md, section 10."""

    def register(run: Callable[[Stage], Observed]) -> Callable[[Stage], Observed]:
        name = f"A{number}"
        if name in _CATALOGUE:
            raise ValueError(f"{name} is registered twice")
        _CATALOGUE[name] = Attack(name, who, run.__name__, text, run)
        return run

    return register


def attacks() -> list[Attack]:
    """Return the catalogue in the order of its numbers."""
    return sorted(_CATALOGUE.values(), key=lambda item: int(item.id[1:]))


@dataclass
class Stage:
    """Where attacks are played: a small second-price auction of two items among three bidders.

    Args:
        folder: Scratch folder for the attacks that need files; must be empty.
        seed: Everything is drawn from it.
    """

    folder: Path
    seed: int = 5

    @cached_property
    def artifact(self) -> CheckedArtifact:
        """Two items with reserves 100 and 0, three seats, bids 0 to 1000."""
        return build.single_item_reserve([100, 0], bidders=3, bid_max=1000, share_bits=8, unit="1 cent")

    @cached_property
    def engine(self) -> Engine:
        """Its runtime."""
        return Engine(self.artifact.data)

    def table(self, auctioneer: type[Auctioneer] = Auctioneer, *, bidders: int = 3, **rules: Any) -> Table:
        """Return a session with registered bidders; by default one round, audited."""
        chosen: dict[str, Any] = {"preset": "published", "rounds": 1, **rules}
        chosen.setdefault("k", chosen["rounds"])
        table = Table(
            Rules(seeded=True, **chosen),
            self.artifact.header,
            self.artifact.file_sha256,
            self.engine,
            Secrets.seeded(self.seed),
            [f"bidder-{seat}" for seat in range(bidders)],
            auctioneer=auctioneer,
        )
        table.register()
        return table

    def played(self, auctioneer: type[Auctioneer] = Auctioneer, **rules: Any) -> Table:
        """Return a session of one epoch that was played to its end with the usual bids."""
        table = self.table(auctioneer, **rules)
        for index in range(table.manifest.rounds):
            table.play_round(index, RoundPlan(BIDS))
        table.end_epoch(0)
        return table

    def judged(self, auctioneer: type[Auctioneer] = Auctioneer, **rules: Any) -> Judgement:
        """Play a session to its end and return what a newcomer finds in its log."""
        return self.played(auctioneer, **rules).judge()

    @cached_property
    def honest(self) -> bool:
        """Whether the usual run without an attack passes, bidders and newcomer alike."""
        table = self.played()
        shown = table.judge()
        return not (table.tier1 or shown.findings or shown.waiting)

    def caught(self, shown: Judgement, rule: str) -> Observed:
        """Return that a newcomer convicts by a rule; raise LookupError if it does not."""
        for finding in shown.findings:
            if finding.rule == rule and finding.party in ("auctioneer", "log"):
                return Observed(CAUGHT, rule, finding.text, self.honest)
        raise LookupError(f"no finding under rule {rule}: {shown.findings}")


def refusal(action: Callable[[], object], *kinds: type[Exception]) -> str:
    """Return the class and text of the refusal that an action meets; raise LookupError if it succeeds."""
    try:
        action()
    except kinds as error:
        return f"{type(error).__name__}: {error}"
    raise LookupError("nothing refused the attack")
