"""Millions of rounds: blocks of markets in several processes, added up as they end, resumed where they stopped."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from credible.simulation.agents import Terms, Values, auctioneer_agent, bidder_agents, runs, spec_digest
from credible.simulation.economy import DrawnCoins, Economy
from credible.simulation.players import Players
from protocol.artifact.engine import Engine
from protocol.encoding import hash_of
from protocol.errors import MalformedError
from protocol.storage.files import write_file

LANES: Final = 1000  # markets of a block: enough to hide the interpreter, few enough for the cache
CELLS: Final = 20_000_000  # rounds of a block
SQUARED: Final = ("revenue", "welfare", "profit")
COUNTED: Final = (
    "rounds", "revenue", "honest", "friend", "welfare", "deviations", "audited", "penalty", "returned", "forfeited",
    "caught", "seen", "profit",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """A market to play many times over.

    Attributes:
        artifact: The mechanism's bytes.
        rules: The announced terms.
        values: What values are drawn from.
        bidders: See `agents.bidder_agents`.
        auctioneer: See `agents.auctioneer_agent`.
        secret: 32 bytes that decide everything.
        sessions: How many markets of T rounds.
        context: The public integers of every round.
    """

    artifact: bytes = field(repr=False)
    rules: Terms
    values: Values
    bidders: str
    auctioneer: str
    secret: bytes = field(repr=False)
    sessions: int
    context: tuple[int, ...] = ()

    @property
    def lanes(self) -> int:
        """Markets side by side: fewer of long ones, whose draws are kept for all rounds."""
        return max(1, min(LANES, CELLS // self.rules.rounds))

    @property
    def blocks(self) -> int:
        """Number of blocks; the last may be smaller."""
        return -(-self.sessions // self.lanes)


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sums of a finished block, as the state file keeps them.

    Attributes:
        block: Its number.
        sessions: Markets in it.
        sums: By name of `COUNTED`, fine units, exact.
        squares: Of a market's sum, by name of `SQUARED`.
        utility: By agent, fine units.
        series: Sums by point of time, see `Economy.series`.
        bids: Sums of bids by agent and point of time, grid units.
        values: The same of values.
        peak_rss_bytes: Most memory that its process has held.
        seconds: Since the run began when it was written, earlier runs included.
    """

    block: int
    sessions: int
    sums: dict[str, int]
    squares: dict[str, float]
    utility: list[int]
    series: dict[str, list[float]]
    bids: list[list[float]]
    values: list[list[float]]
    peak_rss_bytes: int
    seconds: float = 0.0


@dataclass(slots=True)
class Totals:
    """Sums over the markets of some blocks; attributes as in `Block`."""

    sessions: int = 0
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    squares: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SQUARED, 0.0))
    utility: list[int] = field(default_factory=list)
    series: dict[str, list[float]] = field(default_factory=dict)
    bids: list[list[float]] = field(default_factory=list)
    values: list[list[float]] = field(default_factory=list)

    def add(self, block: Block) -> None:
        """Add a block."""
        self.sessions += block.sessions
        for name in COUNTED:
            self.sums[name] += block.sums[name]
        for name in SQUARED:
            self.squares[name] += block.squares[name]
        mine = self.utility or [0] * len(block.utility)
        self.utility = [a + b for a, b in zip(mine, block.utility, strict=True)]
        for name, points in block.series.items():
            self.series[name] = _plus(self.series.get(name), points)
        for kept, more in ((self.bids, block.bids), (self.values, block.values)):
            kept[:] = [_plus(kept[agent] if kept else None, points) for agent, points in enumerate(more)]

    def mean(self, name: str, share_bits: int) -> tuple[float, float]:
        """Return a market's mean of one of `SQUARED` in grid units, and its standard error: NaN of a single market."""
        mean = self.sums[name] / self.sessions
        if self.sessions < 2:
            return mean / (1 << share_bits), math.nan
        variance = max(self.squares[name] / self.sessions - mean**2, 0.0) * self.sessions / (self.sessions - 1)
        return mean / (1 << share_bits), math.sqrt(variance / self.sessions) / (1 << share_bits)


def _plus(mine: Sequence[float] | None, more: Sequence[float]) -> list[float]:
    return list(more) if mine is None else [a + b for a, b in zip(mine, more, strict=True)]


def players_of(plan: Plan, engine: Engine, first: int, lanes: int) -> Players:
    """Return the agents of some lanes; raise ValueError if one is not known or does not fit."""
    header = engine.artifact.header
    return Players(
        header, runs(engine, plan.context), plan.rules, plan.values, bidder_agents(plan.bidders, header.bidders),
        auctioneer_agent(plan.auctioneer), plan.secret, first, lanes, plan.context,
    )  # fmt: skip


def play_block(plan: Plan, engine: Engine, block: int) -> Block:
    """Play one block and return its sums."""
    first = block * plan.lanes
    lanes = min(plan.lanes, plan.sessions - first)
    players, header = players_of(plan, engine, first, lanes), engine.artifact.header
    coins = DrawnCoins(plan.secret, plan.rules, header.items, header.share_bits, first, lanes)
    economy = Economy(players, coins)
    ledger = economy.run()
    columns = {name: getattr(ledger, name) for name in COUNTED}
    return Block(
        block=block,
        sessions=lanes,
        sums={name: sum(column.tolist()) for name, column in columns.items()},
        squares={name: float((columns[name].astype(np.float64) ** 2).sum()) for name in SQUARED},
        utility=[sum(row.tolist()) for row in ledger.utility],
        series={name: points.tolist() for name, points in economy.series.items()},
        bids=economy.bidding[0].tolist(),
        values=economy.bidding[1].tolist(),
        peak_rss_bytes=peak_rss(),
    )


def peak_rss() -> int:
    """Return the most memory that this process has held, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


_worker: list[tuple[Plan, Engine]] = []  # of a child process


def _begin(plan: Plan) -> None:
    _worker.append((plan, Engine(plan.artifact)))


def _play(block: int) -> Block:
    plan, engine = _worker[0]
    return play_block(plan, engine, block)


def _results(plan: Plan, blocks: Sequence[int], processes: int) -> Iterator[Block]:
    """Play blocks, a few at a time, and yield their sums as they come."""
    if processes == 1 or len(blocks) == 1:
        engine = Engine(plan.artifact)
        for block in blocks:
            yield play_block(plan, engine, block)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(blocks)), context, _begin, (plan,)) as pool:
        waiting: set[Future[Block]] = set()
        left = iter(blocks)
        try:
            for block in left:
                waiting.add(pool.submit(_play, block))
                if len(waiting) >= 2 * processes:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            pool.shutdown(cancel_futures=True)


def play(
    plan: Plan,
    *,
    processes: int = 1,
    state: Path | None = None,
    progress: Callable[[int], None] = lambda rounds: None,
) -> tuple[Totals, float, int]:
    """Play all markets of a plan.

    Args:
        plan: What to play.
        processes: Child processes; 1 plays in this one.
        state: File that keeps the sums of finished blocks; a run goes on from what it holds.
        progress: Told the scheduled rounds that are done.

    Returns:
        The sums, seconds of this and earlier runs, and a bound on the memory that all processes together have held.

    Raises:
        MalformedError: If the state is damaged.
        ValueError: If the state is of another plan, or an agent does not fit.
    """
    players_of(plan, Engine(plan.artifact), 0, 1)  # refuses here what would fail in a child
    digest = plan_digest(plan)
    totals, done, before = Totals(), set[int](), 0.0
    if state is not None and state.exists():
        for entry in _read_state(state, plan, digest):
            totals.add(entry)
            done.add(entry.block)
            before = max(before, entry.seconds)
    elif state is not None:
        state.parent.mkdir(parents=True, exist_ok=True)
        write_file(state, msgspec.json.encode({"plan": digest}) + b"\n")
    progress(totals.sessions * plan.rules.rounds)
    blocks = [block for block in range(plan.blocks) if block not in done]
    started, highest = time.perf_counter(), 0
    for result in _results(plan, blocks, processes):
        totals.add(result)
        highest = max(highest, result.peak_rss_bytes)
        if state is not None:
            entry = msgspec.structs.replace(result, seconds=before + time.perf_counter() - started)
            with state.open("ab") as file:
                file.write(msgspec.json.encode(entry) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        progress(totals.sessions * plan.rules.rounds)
    alone = processes == 1 or len(blocks) < 2
    children = 0 if alone else highest * min(processes, len(blocks))
    return totals, before + time.perf_counter() - started, peak_rss() + children


def plan_digest(plan: Plan) -> str:
    """Return what tells two plans apart, hex."""
    values, rules = plan.values, plan.rules
    pools = [b"" if part is None else part.tobytes() for part in (values.pool, values.seated, values.path)]
    return hash_of(
        "market",
        {
            "artifact": plan.artifact.hex(), "auctioneer": spec_digest(plan.auctioneer),
            "bidders": spec_digest(plan.bidders), "context": [str(value) for value in plan.context],
            "lanes": plan.lanes, "participation": str(values.participation), "pools": [pool.hex() for pool in pools],
            "rules": [rules.preset, rules.gains, str(rules.q)]
            + [str(n) for n in (rules.rounds, rules.epoch, rules.k, rules.lag, rules.penalty)],
            "secret": plan.secret.hex(), "sessions": plan.sessions,
        },
    ).hex()  # fmt: skip


def _read_state(path: Path, plan: Plan, digest: str) -> list[Block]:
    """Return the finished blocks; a last line that an interruption cut short is dropped from the file.

    Raises:
        MalformedError: If it is not the state of a market, or holds a block twice; the file stays as it is.
        ValueError: If it is of another plan.
    """
    lines = path.read_bytes().split(b"\n")
    try:
        first = msgspec.json.decode(lines[0], type=dict[str, str])["plan"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
        raise MalformedError(f"{path}: not the state of a market: {error}") from error
    if first != digest:
        raise ValueError(f"{path} is of another market; resume with the same options, or choose another --out")
    try:
        blocks = [msgspec.json.decode(line, type=Block) for line in lines[1:-1]]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"{path}: not the state of a market: {error}") from error
    numbers = [block.block for block in blocks]
    if len(set(numbers)) != len(numbers) or not set(numbers) <= set(range(plan.blocks)):
        raise MalformedError(f"{path}: holds a block twice, or one that the market does not have")
    for block in blocks:
        if set(block.sums) != set(COUNTED) or set(block.squares) != set(SQUARED):
            raise MalformedError(f"{path}: block {block.block} holds other sums")
    if lines[-1]:  # no newline: the last write was cut short
        write_file(path, b"".join(line + b"\n" for line in lines[:-1]))
    return blocks
