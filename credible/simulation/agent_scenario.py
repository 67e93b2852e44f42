"""Agents at the table of one session of the full protocol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from credible.simulation.agents import auctioneer_agent, bidder_agents
from credible.simulation.agents.base import DEFAULT, Bidder, Execute, Settling, Values, runs, terms
from credible.simulation.draws import Counts, Flags
from credible.simulation.players import Players, Submitted
from credible.simulation.scenario import RoundPlan
from credible.simulation.setup import Rules
from credible.simulation.table import Table
from protocol.artifact import Header, RoundInput, RoundOutput, Runner
from protocol.artifact.engine import Engine
from protocol.auctioneer import Auctioneer
from protocol.log.equivocation import Equivocation
from protocol.log.note import Checkpoint, sign_checkpoint
from protocol.log.tree import leaf_hash
from protocol.messages import Bid, MatrixBody, Statement, receipt_for, sign_statement


def executing(runner: Runner, context: tuple[int, ...] = ()) -> Execute:
    """Return a runner of single rounds as agents and engines call it, in arrays, the same context in every round."""
    if isinstance(runner, Engine):
        return runs(runner, context)

    def execute(bids: Counts, participation: Flags) -> dict[str, Counts]:
        rounds = [
            RoundInput(bids=rows, participation=mask, context=list(context))
            for rows, mask in zip(bids.tolist(), participation.astype(int).tolist(), strict=True)
        ]
        outputs = runner.run(rounds)
        return {
            "allocation": np.array([output.allocation for output in outputs], dtype=np.int64).reshape(bids.shape),
            "payment": np.array([output.payment for output in outputs], dtype=np.int64).reshape(participation.shape),
        }

    return execute


def agent_scenario(
    header: Header,
    runner: Runner,
    rules: Rules,
    secret: bytes,
    *,
    values: Values | None = None,
    bidders: str = "truthful",
    auctioneer: str = "honest",
    context: tuple[int, ...] = (),
) -> AgentScenario:
    """Return agents at the table of one session.

    Args:
        header: Of the artifact.
        runner: Executes it.
        rules: What the session's initiator chose.
        secret: Decides what agents draw.
        values: What values are drawn from; uniform on the whole grid if left out.
        bidders: See `agents.bidder_agents`.
        auctioneer: See `agents.auctioneer_agent`.
        context: The public integers of every round, if the artifact takes any.

    Raises:
        ValueError: If an agent is not known or does not fit.
    """
    announced = terms(
        rules.preset, header, rules.rounds, k=rules.k, q=rules.q, epoch=rules.epoch, gains=rules.gains,
        coins=2**rules.aborting,
    )  # fmt: skip
    drawn = values or Values(header.bidders, header.items, header.bid_max)
    seated = bidder_agents(bidders, header.bidders)
    if rules.profile == "P0" and any(type(bidder).silent is not Bidder.silent for bidder in seated):
        raise ValueError("openings come with the bids under profile P0: nobody can leave one out (spec 3.9)")
    players = Players(
        header, executing(runner, context), announced, drawn, seated, auctioneer_agent(auctioneer), secret,
        context=context,
    )  # fmt: skip
    return AgentScenario(players)


class AgentScenario:
    """Agents at the table of one session: lane 0 of what the vectorised engine plays in thousands.

    Args:
        players: The agents, with one lane.

    Raises:
        ValueError: If there are more lanes, or the terms know no audits.
    """

    def __init__(self, players: Players) -> None:
        if players.lanes != 1 or players.rules.preset == DEFAULT:
            raise ValueError(
                f"a session has one lane and audits, got {players.lanes} lanes and preset {players.rules.preset}"
            )
        self.players = players
        self.seats = [f"bidder-{seat}" for seat in range(players.header.bidders)]
        self.auctioneer: type[Auctioneer] = type("PlayedAuctioneer", (PlayedAuctioneer,), {"scenario": self})
        self.submitted: dict[int, Submitted] = {}
        self.receipts: dict[int, bytes] = {}  # of bids that were dropped in this run, by round

    def plan(self, round_index: int) -> RoundPlan:
        """Ask every bidder for its bids."""
        self.submitted[round_index] = sent = self.players.submit(round_index)
        present = np.flatnonzero(sent.present[0]).tolist()
        # whose bid is dropped sees so at the close, and has nothing to open
        unopened = np.flatnonzero(sent.silent[0] | sent.dropped[0]).tolist()
        return RoundPlan(
            {seat: sent.bids[0, seat].tolist() for seat in present},
            silent=frozenset(unopened),
            late=frozenset(np.flatnonzero(sent.late[0]).tolist()),
            context=list(self.players.context),
        )

    def settled(self, round_index: int, matrix: MatrixBody, *, again: bool) -> None:
        """Show every bidder its rows; the auctioneer hears of a round again before it goes on with a resumed run."""
        sent = self.submitted[round_index]
        here = sent.participation
        if again:
            bids = sent.bids * here[:, :, None]
            arrays = self.players.execute(bids, here)
            self.players.claim(self._settling(round_index, bids, here, arrays["allocation"], arrays["payment"]))
        shares, payment = np.zeros_like(sent.bids), np.zeros(here.shape, dtype=np.int64)
        if matrix.seats:
            shares[0, matrix.seats], payment[0, matrix.seats] = matrix.allocation, matrix.payment
        won = np.array([matrix.won], dtype=np.int64)
        self.players.observe(round_index, sent.values, here, shares, payment, won)

    def closed(self, epoch: int, disclosed: Sequence[int], halted: bool) -> None:
        """Show every reader the rounds that are public now, and the auctioneer the verdict."""
        lane = np.zeros(1, dtype=np.int64)
        for index in sorted(disclosed):
            sent = self.submitted[index]
            here = sent.participation
            self.players.disclose(index, lane, sent.values, sent.bids * here[:, :, None], here)
        for index in self.players.rules.rounds_of(epoch):
            self.submitted.pop(index, None)
        self.players.auctioneer.told(epoch, np.array([halted]))

    def claim(self, round_index: int, item: RoundInput, output: RoundOutput) -> RoundOutput:
        """Return what the auctioneer publishes."""
        bids, here = np.array([item.bids], dtype=np.int64), np.array([item.participation], dtype=bool)
        allocation, payment = np.array([output.allocation], dtype=np.int64), np.array([output.payment], dtype=np.int64)
        shares, paid = self.players.claim(self._settling(round_index, bids, here, allocation, payment))
        return RoundOutput(allocation=shares[0].tolist(), payment=paid[0].tolist())

    def _settling(self, round_index: int, bids: Counts, here: Flags, allocation: Counts, payment: Counts) -> Settling:
        unit = 1 << self.players.header.share_bits
        return Settling(round_index, np.ones(1, dtype=bool), bids, here, allocation, payment, unit)


class PlayedAuctioneer(Auctioneer):
    """The protocol's auctioneer as an agent plays it."""

    scenario: AgentScenario

    def claim(
        self, round_index: int, item: RoundInput, output: RoundOutput, seed: bytes
    ) -> tuple[RoundOutput, list[int]]:
        """Publish what the agent claims, with winners drawn from it."""
        return super().claim(round_index, item, self.scenario.claim(round_index, item, output), seed)

    def receive(self, data: bytes, time: int) -> bytes:
        """Give a receipt for a bid that is dropped, and do not log it."""
        statement = Statement.decode(data)
        body = statement.body
        if isinstance(body, Bid) and body.round in self.scenario.submitted and body.bidder in self.session.seats:
            seat = self.session.seats.index(body.bidder)
            if self.scenario.submitted[body.round].dropped[0, seat]:
                due = self.session.due(body)
                receipt = sign_statement(receipt_for(statement, self.session.id, time, due), self._sign)
                self.scenario.receipts[body.round] = receipt
                return receipt
        return super().receive(data, time)

    def respond(self, epoch: int) -> None:
        """Answer the challenge, unless the agent refuses where a deviating round was drawn."""
        drawn = self.session.audited(epoch) or ()
        if not (self.scenario.players.auctioneer.refuses and any(self.deviated.get(index) for index in drawn)):
            super().respond(epoch)

    def open_epoch(self, epoch: int) -> None:
        """Open the whole epoch after a deviation, unless the agent refuses."""
        if not self.scenario.players.auctioneer.refuses:
            super().open_epoch(epoch)


def split_view(table: Table) -> bytes:
    """Return the proof that an equivocating auctioneer leaves: two signed heads of one size (spec 4.13)."""
    key, tree = table.secrets.auctioneer().log(), table.auctioneer.log.tree
    heads = [
        sign_checkpoint(Checkpoint(key.name, tree.size, root), key)
        for root in (leaf_hash(b"what the auditors were shown"), tree.root())
    ]
    return Equivocation(heads[0], heads[1], tree.root(), ()).encode()
