"""The hidden result of a round: rows, matrix, and the hashes that commit to them (spec 3.15 to 3.17)."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

from protocol.artifact import RoundInput, RoundOutput
from protocol.encoding import pae
from protocol.manifest import Manifest
from protocol.messages import MatrixBody, RowBody
from protocol.randomness.lottery import charge_of
from protocol.session import Session


def hide(name: str, body: RowBody | MatrixBody, nonce: bytes) -> str:
    """Return HMAC-SHA256(nonce, PAE(NAME, body)), hex: "row" or "matrix" (spec 3.17)."""
    if len(nonce) != 32:
        raise ValueError(f"row nonce has {len(nonce)} bytes, wanted 32 (spec 3.17)")
    return hmac.digest(nonce, pae(name, body), "sha256").hex()


def round_input(session: Session, round_index: int, mask: Sequence[int], bids: Mapping[str, list[int]]) -> RoundInput:
    """Return what the artifact is run on: executed bids by seat, zero rows for absent and empty seats (spec 2.13).

    Args:
        session: The log's state.
        round_index: Round, from 0.
        mask: Participation by registered seat.
        bids: Bids after the support rule, by party, of every seat of the mask.
    """
    manifest = session.manifest
    zeros = [0] * len(manifest.items)
    empty = manifest.seats - len(session.seats)
    context = session.round(round_index).context
    return RoundInput(
        bids=[bids[party] if bit else zeros for party, bit in zip(session.seats, mask, strict=True)] + [zeros] * empty,
        participation=[*mask, *([0] * empty)],
        context=context.values if context else [],
    )


def build_matrix(
    manifest: Manifest,
    round_index: int,
    mask: Sequence[int],
    bids: Sequence[Sequence[int]],
    output: RoundOutput,
    won: Sequence[int],
) -> MatrixBody:
    """Return the whole result over the seats of the mask.

    Args:
        manifest: Gives charge rule and units.
        round_index: Round, from 0.
        mask: 1 for each seat that takes part.
        bids: Executed bids by seat, after the support rule.
        output: Allocation and payment by seat.
        won: Winning seat by item, -1 unsold.
    """
    seats = [seat for seat, bit in enumerate(mask) if bit]
    charges = [
        charge_of(
            manifest.charge,
            output.allocation[seat],
            bids[seat],
            output.payment[seat],
            [item for item, winner in enumerate(won) if winner == seat],
            manifest.share_bits,
        )
        for seat in seats
    ]
    return MatrixBody(
        session=manifest.session,
        round=round_index,
        seats=seats,
        allocation=[output.allocation[seat] for seat in seats],
        payment=[output.payment[seat] for seat in seats],
        won=list(won),
        charge=charges,
    )


def rows_of(matrix: MatrixBody) -> list[RowBody]:
    """Return each bidder's row of a matrix, in seat order."""
    return [
        RowBody(
            session=matrix.session,
            round=matrix.round,
            seat=seat,
            shares=shares,
            won=[item for item, winner in enumerate(matrix.won) if winner == seat],
            payment=payment,
            charge=charge,
        )
        for seat, shares, payment, charge in zip(
            matrix.seats, matrix.allocation, matrix.payment, matrix.charge, strict=True
        )
    ]
