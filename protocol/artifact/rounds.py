"""Inputs and outputs of one round, in plain integers, and the feasibility every output must have (spec 2.13, 3.14)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from protocol.artifact.header import Header
from protocol.encoding import MAX_INTEGER, Message
from protocol.errors import ArtifactRefusedError


class RoundInput(Message, frozen=True):
    """What the artifact is run on.

    Attributes:
        bids: Grid units, one row per seat, one column per item; absent rows are zero.
        participation: 1 for a seat that takes part, else 0.
        context: Public integers that the artifact declares.
    """

    bids: list[list[int]]
    participation: list[int]
    context: list[int]


class RoundOutput(Message, frozen=True):
    """What the artifact returns: shares in 2^-share_bits of an item, payments in fine units."""

    allocation: list[list[int]]
    payment: list[int]


class Runner(Protocol):
    """What executes an artifact: `Sandbox` for foreign files, `artifact.engine.Engine` in process."""

    def run(self, rounds: Sequence[RoundInput]) -> list[RoundOutput]:
        """Run rounds in the runtime."""
        ...

    def judge(self, rounds: Sequence[RoundInput]) -> list[RoundOutput]:
        """Evaluate rounds in the pure-Python judge (spec 7.6)."""
        ...


def check_input(header: Header, item: RoundInput) -> None:
    """Raise ValueError unless the shapes are the artifact's and every value is an integer of spec 2.1."""
    if len(item.bids) != header.bidders or any(len(row) != header.items for row in item.bids):
        raise ValueError(f"bids must have {header.bidders} rows of {header.items}")
    if len(item.participation) != header.bidders or any(value not in (0, 1) for value in item.participation):
        raise ValueError(f"participation must be {header.bidders} values of 0 or 1")
    if len(item.context) != len(header.context):
        raise ValueError(f"context must be {header.context}, got {len(item.context)} values")
    if any(type(value) is not int or not 0 <= value <= header.bid_max for value in item.context):
        raise ValueError(f"context {item.context}: wanted {header.context} within 0 to {header.bid_max}")
    for value in (*(bid for row in item.bids for bid in row), *item.context):
        if type(value) is not int or abs(value) > MAX_INTEGER:
            raise ValueError(f"{value!r} is no integer within +-(2^53 - 1)")


def check_output(header: Header, item: RoundInput, output: RoundOutput) -> None:
    """Check feasibility (spec 3.14): shares >= 0, at most the whole of each item, 0 <= payment <= share of own bid.

    Raises:
        ArtifactRefusedError: If the artifact itself breaks a law; such an artifact decides nothing.
    """
    whole = header.unit_share
    for column in range(header.items):
        if sum(row[column] for row in output.allocation) > whole:
            raise ArtifactRefusedError(f"the artifact awards more than the whole of item {column} (spec 3.14)")
    for seat, (row, payment, bids) in enumerate(zip(output.allocation, output.payment, item.bids, strict=True)):
        if not item.participation[seat] and (any(row) or payment):
            raise ArtifactRefusedError(f"the artifact awards or charges the absent seat {seat} (spec 2.13)")
        if any(share < 0 for share in row):
            raise ArtifactRefusedError(f"the artifact awards seat {seat} a negative share (spec 3.14)")
        clamped = [min(max(bid, 0), header.bid_max) for bid in bids]
        worth = sum(share * bid for share, bid in zip(row, clamped, strict=True))
        if not 0 <= payment <= worth:
            raise ArtifactRefusedError(
                f"the artifact charges seat {seat} {payment}, its bid is worth {worth} (spec 3.14)"
            )
