"""What bidders and rings of bidders may try (docs/spec.md, section 10)."""

from __future__ import annotations

from functools import partial

import msgspec

from credible.simulation.attacks.catalogue import BIDS, OPEN, PREVENTED, Observed, Stage, attack, refusal
from credible.simulation.scenario import RoundPlan
from credible.simulation.setup import Rules, Secrets, draw_up
from protocol import messages as m
from protocol.auctioneer import RefusedError
from protocol.commitment import Opening, commit, verify_opening
from protocol.errors import BindingError, MalformedError
from protocol.keys import derive
from protocol.randomness.tickets import audit_seed, draw_fixed


@attack(12, "anyone", "the last revealer aborts in the coin toss")
def abort_reveal(stage: Stage) -> Observed:
    """Whoever reveals last takes the better of two coins: priced with m = 2^c, and each abort forfeits."""
    rounds, cheat, quota, missed, trials = range(10), 3, 3, 0, 4000
    for trial in range(trials):
        links = {"aa" * 32: derive(trial.to_bytes(32, "big"), b"honest").hex()}
        last = {**links, "bb" * 32: derive(trial.to_bytes(32, "big"), b"last").hex()}
        coins = [draw_fixed(audit_seed("", 0, "00" * 32, each), rounds, quota) for each in (links, last)]
        missed += any(cheat not in coin for coin in coins)
    caught, chance = 1 - missed / trials, (quota / 10) ** 2
    error = (chance * (1 - chance) / trials) ** 0.5
    if abs(caught - chance) > 4 * error:
        raise LookupError(f"caught {caught:.4f}, the bound for m = 2 is {chance:.4f}")
    priced = draw_up(
        Rules("prompt", 10, aborting=1, seeded=True), stage.artifact.header, stage.artifact.file_sha256,
        Secrets.seeded(stage.seed),
    )[0].money.penalty  # fmt: skip
    plain = draw_up(
        Rules("prompt", 10, seeded=True), stage.artifact.header, stage.artifact.file_sha256, Secrets.seeded(stage.seed)
    )[0].money.penalty
    text = (
        f"detection falls from 0.3 to {caught:.4f} (P^2 = {chance:.2f}); the penalty rises {priced / plain:.1f} times"
    )
    return Observed(OPEN, "9.12", text, stage.honest, {"caught": caught, "bound": chance, "penalty": priced / plain})


@attack(21, "bidder", "refuses to open, extorts with a late opening")
def no_opening(stage: Stage) -> Observed:
    """The bid is void and its bidder absent, the stake is taken once, and an opening that comes late never counts."""
    table, absent = stage.table(), stage.table()
    table.take_bids(0, RoundPlan(BIDS))
    table.take_openings(0, [0, 1])
    late = table.bidders[2].opening(0)
    text = refusal(lambda: table.auctioneer.receive(late, table.session.deadline(0, "opening") + 1), RefusedError)
    table.clear(0)
    table.end_epoch(0)
    absent.play_round(0, RoundPlan({seat: BIDS[seat] for seat in (0, 1)}))
    taken = table.session.bidders[table.session.seats[2]].forfeited
    same = table.auctioneer.matrices[0].charge == absent.auctioneer.matrices[0].charge
    shown = table.judge()
    if not same or taken != table.manifest.money.opening_forfeit or shown.findings:
        raise LookupError(f"outcome changed {not same}, forfeited {taken}, {shown.findings}")
    return Observed(PREVENTED, "3.10", f"{text}; outcome as without it, {taken:,} forfeited", stage.honest)


@attack(22, "bidder", "opens one commitment two ways")
def double_opening(stage: Stage) -> Observed:
    """The whole HMAC binds every field and the nonce has one length."""
    table = stage.table()
    table.take_bids(0, RoundPlan(BIDS))
    party = table.bidders[0].party
    true: Opening = table.bidders[0]._openings[0]
    expected = table.session.expected_body(0, party)
    verify_opening(true, true.commitment, expected)
    texts = [
        refusal(partial(verify_opening, Opening(other, true.nonce), true.commitment, expected), BindingError)
        for other in (
            msgspec.structs.replace(true.body, bids=[501, 0]),
            msgspec.structs.replace(true.body, bids=[500, 0, 0]),
            msgspec.structs.replace(true.body, participation=False),
        )
    ]
    texts.append(refusal(lambda: Opening(true.body, true.nonce + b"\x00"), MalformedError))
    texts.append(
        refusal(lambda: verify_opening(Opening(true.body, bytes(32)), true.commitment, expected), BindingError)
    )
    return Observed(PREVENTED, "3.1", f"{len(texts)} second openings refused; {texts[0]}", stage.honest)


@attack(23, "bidder", "copies a rival's commitment")
def copy_commitment(stage: Stage) -> Observed:
    """Bidder and session are inside the commitment: the rival's opening is refused under the copy."""
    table = stage.table()
    copier = table.bidders[1]
    for seat in (0, 1):
        table.send(table.bidders[seat], table.bidders[seat].presence(0), 0)
    table.send(table.bidders[0], table.bidders[0].bid(0, BIDS[0]), 0)
    original = table.session.round(0).bids[table.bidders[0].party].com
    own = m.Statement.decode(copier.bid(0, [1, 1])).body
    if not isinstance(own, m.Bid):
        raise TypeError("wanted a bid")
    table.send(copier, m.sign_statement(msgspec.structs.replace(own, com=original), copier._sign), 0)
    opening: Opening = table.bidders[0]._openings[0]
    text = refusal(
        lambda: verify_opening(opening, bytes.fromhex(original), table.session.expected_body(0, copier.party)),
        BindingError,
    )
    return Observed(PREVENTED, "3.2", text, stage.honest)


@attack(24, "bidder", "replays an old bid")
def replay_bid(stage: Stage) -> Observed:
    """Session, epoch, round and seq are inside the commitment and the statement."""
    table, other = stage.table(rounds=2), stage.table(rounds=2)
    table.play_round(0, RoundPlan(BIDS))
    opening: Opening = table.bidders[0]._openings[0]
    expected = table.session.expected_body(0, table.bidders[0].party)
    refused = [
        refusal(
            partial(verify_opening, opening, opening.commitment, msgspec.structs.replace(expected, **{name: value})),
            BindingError,
        )
        for name, value in (("session", "00" * 32), ("epoch", 1), ("round", 1), ("seq", 9))
    ]
    first = next(entry for entry in table.auctioneer.log.entries if isinstance(m.Statement.decode(entry).body, m.Bid))
    table.send(table.bidders[0], table.bidders[0].presence(1), table.manifest.round_time(1))
    size = table.auctioneer.log.tree.size
    table.auctioneer.receive(first, 0)  # the same receipt again, as after a lost answer (spec 3.5)
    if table.auctioneer.log.tree.size != size or table.session.round(1).bids:
        raise LookupError("a bid of round 0 was taken again")
    again = stage.table(rounds=3)
    refused.append(refusal(lambda: again.auctioneer.receive(first, 0), RefusedError))
    other.play_round(0, RoundPlan(BIDS))
    return Observed(PREVENTED, "3.2", f"{len(refused)} replays refused; {refused[0]}", stage.honest)


@attack(25, "bidder", "bids outside the support or malformed to fail the audit")
def bad_bid(stage: Stage) -> Observed:
    """Such a bid is void or clamped by a published rule; the audit passes."""
    for rule in ("void", "clamp"):
        table = stage.table(support_rule=rule)
        table.play_round(0, RoundPlan({0: [5000, -7], 1: BIDS[1], 2: BIDS[2]}))
        table.end_epoch(0)
        shown = table.judge()
        if shown.findings or table.tier1:
            raise LookupError(f"a bad bid convicts: {shown.findings or table.tier1}")
    return Observed(
        PREVENTED, "3.12", "bids 5000 and -7 on a grid of 0 to 1000: void or clamped, audit passes", stage.honest
    )


@attack(26, "bidder", "frames the auctioneer with a garbage opening")
def garbage_seal(stage: Stage) -> Observed:
    """The sealed opening can be made again from the opening in clear: who lied shows."""
    table = stage.table()
    table.take_bids(0, RoundPlan(BIDS))
    liar = table.bidders[2]
    true = m.Statement.decode(liar.opening(0)).body
    if not isinstance(true, m.OpeningStatement):
        raise TypeError("wanted an opening")
    garbage = msgspec.structs.replace(true, ct="00" * (len(true.ct) // 2))
    table.auctioneer.receive(m.sign_statement(garbage, liar._sign), 0)
    table.take_openings(0, [0, 1])
    table.auctioneer.settle(0)
    table.cosign(table.session.deadline(0, "outcome") - 1)
    table.auctioneer.receive(liar.complaint(0), 0)
    table.end_epoch(0)
    shown = table.judge()
    void = table.session.round(0).voids[liar.party]
    if shown.findings or void != m.UNREADABLE:
        raise LookupError(f"void {void}, {shown.findings}")
    return Observed(PREVENTED, "3.11", f"void as {void}; the complaint's opening seals to other bytes", stage.honest)


@attack(27, "bidder ring", "bids low, pays each other on the side")
def ring(stage: Stage) -> Observed:
    """Rings break no rule of the protocol; bids stay on record for screens, disclosed rounds in clear."""
    table = stage.table()
    table.play_round(0, RoundPlan({0: [120, 0], 1: [0, 60], 2: [0, 0]}))
    table.end_epoch(0)
    truth = stage.played()
    if table.judge().findings:
        raise LookupError("a ring is convicted")
    lost = (truth.revenue - table.revenue) / (1 << table.manifest.share_bits)
    return Observed(
        OPEN, "1.8", f"not convicted; the ring of three saves {lost:g} grid units", stage.honest, {"lost": lost}
    )


@attack(28, "anyone", "takes seats under several names")
def sybil(stage: Stage) -> Observed:
    """A second name costs a second deposit; what it gains depends on the mechanism."""
    table = stage.table()
    table.play_round(0, RoundPlan({0: BIDS[0], 1: [0, 700], 2: [300, 0]}))  # bidder 1 split in two
    table.end_epoch(0)
    if table.judge().findings:
        raise LookupError("a sybil is convicted")
    single = stage.table()
    single.play_round(0, RoundPlan({0: BIDS[0], 1: [300, 700]}))
    deposit = table.manifest.money.bidder_deposit
    gain = single.revenue - table.revenue
    text = f"not convicted; two names pay {gain:,} fine units less than one and lock {deposit:,} more"
    return Observed(OPEN, "1.8", text, stage.honest, {"gain": gain, "deposit": deposit})


@attack(35, "bidder", "guesses bids from a small support")
def guess_bid(stage: Stage) -> Observed:
    """A dictionary over the whole support opens no commitment: 32 secret bytes are hashed with it."""
    table = stage.table()
    table.send(table.bidders[0], table.bidders[0].presence(0), 0)
    table.send(table.bidders[0], table.bidders[0].bid(0, [5, 0]), 0)
    party = table.bidders[0].party
    com, body = table.session.round(0).bids[party].com, table.session.expected_body(0, party)
    found = sum(
        commit(msgspec.structs.replace(body, bids=[bid, 0]), bytes([nonce]) * 32).hex() == com
        for bid in range(0, 1001)
        for nonce in (0, 1)
    )
    opening: Opening = table.bidders[0]._openings[0]
    if found or opening.commitment.hex() != com:
        raise LookupError("a dictionary opens the commitment")
    return Observed(PREVENTED, "3.1", "2,002 guesses over the whole support open nothing", stage.honest)
