"""The hidden result of a round: rows, matrix, what commits to them and what they are sealed to (spec 3.15 to 3.17)."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol import messages as m
from protocol.artifact import RoundInput, RoundOutput
from protocol.encoding import canonical, decode, hash_of, pae
from protocol.errors import BindingError
from protocol.keys import derive, derive_seal_key, seal, unseal
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


def row_info(session: str, round_index: int, sender: str, recipient: str) -> bytes:
    """Return what a sealed row is bound to (spec 2.9)."""
    fields = {"purpose": "row", "recipient": recipient, "round": round_index, "sender": sender}
    return pae("seal", {**fields, "session": session})


def response_info(session: str, round_index: int, sender: str, recipient: str) -> bytes:
    """Return what a response sealed to an auditor is bound to (spec 2.9, 7.7)."""
    fields = {"purpose": "response", "recipient": recipient, "round": round_index, "sender": sender}
    return pae("seal", {**fields, "session": session})


def seal_response(session: Session, body: m.Response, auditor: int) -> m.SealedResponse:
    """Seal a response to an auditor; the same body gives the same bytes, so anyone can tell who lied (spec 3.11, 7.7).

    Args:
        session: The log's state.
        body: The response in clear.
        auditor: Position of the auditor in the manifest.
    """
    party = session.auditors[auditor].party
    key = bytes.fromhex(session.manifest.auditor_seals[auditor])
    ephemeral = derive_seal_key(derive(bytes.fromhex(body.matrix_nonce), pae("seal-key", {"auditor": party})))
    info = response_info(session.id, body.round, session.auctioneer.party, party)
    return m.SealedResponse(
        session=session.id,
        epoch=body.epoch,
        round=body.round,
        auditor=party,
        content=hash_of("response", body).hex(),
        ct=seal(canonical(body), key, info, ephemeral).hex(),
    )


def unseal_response(session: Session, sealed: m.SealedResponse, key: X25519PrivateKey) -> m.Response:
    """Open a response that is sealed to an auditor (spec 7.7).

    Raises:
        ProtocolError: If it does not open, is no response, or is another than its `content` says.
    """
    info = response_info(session.id, sealed.round, session.auctioneer.party, sealed.auditor)
    body = decode(unseal(bytes.fromhex(sealed.ct), key, info), m.Response)
    if hash_of("response", body).hex() != sealed.content or body.round != sealed.round:
        raise BindingError("the sealed response is another than its digest (spec 7.7)")
    return body
