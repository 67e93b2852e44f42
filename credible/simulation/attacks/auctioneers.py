"""What the auctioneer may try, alone or with others (docs/spec.md, section 10)."""

from __future__ import annotations

import random

import msgspec

from credible.simulation.attacks.catalogue import BIDS, CAUGHT, OPEN, PREVENTED, Observed, Stage, attack, refusal
from credible.simulation.scenario import RoundPlan
from credible.simulation.setup import Secrets
from protocol import messages as m
from protocol.artifact import RoundInput, RoundOutput
from protocol.auctioneer import Auctioneer, RefusedError, SealedRow
from protocol.bidder import Bidder
from protocol.errors import VerificationError
from protocol.escrow import check_manifest_stakes
from protocol.keys import derive
from protocol.log.equivocation import Equivocation
from protocol.log.note import Checkpoint, sign_checkpoint
from protocol.manifest import Manifest
from protocol.randomness.lottery import draw_winners, lottery_seed
from protocol.randomness.tickets import audit_seed, draw_fixed
from protocol.receipts import verify_receipts
from protocol.state import encode_mask
from protocol.verify import verify_path


class DropBid(Auctioneer):
    """Gives a receipt for the bid of the last seat and never logs it."""

    def receive(self, data: bytes, time: int) -> bytes:
        """Return a true receipt for what is dropped."""
        statement = m.Statement.decode(data)
        if isinstance(statement.body, m.Bid) and statement.body.bidder == self.session.seats[-1]:
            return m.sign_statement(
                m.receipt_for(statement, self.session.id, time, self.session.due(statement.body)), self._sign
            )
        return super().receive(data, time)


@attack(1, "auctioneer", "drops a bid")
def drop_bid(stage: Stage) -> Observed:
    """The receipt and the close without the bid convict, offline."""
    table = stage.table(DropBid)
    kept: list[bytes] = []
    original = table.send

    def send(bidder: Bidder, data: bytes, at: int) -> bytes:
        receipt = original(bidder, data, at)
        body = m.Statement.decode(data).body
        if isinstance(body, m.Bid) and body.bidder == table.session.seats[-1]:
            kept.append(receipt)
        return receipt

    table.send = send  # type: ignore[method-assign]
    table.take_bids(0, RoundPlan(BIDS))
    table.take_openings(0, [0, 1])
    trust = table.publish(stage.folder / "drop_bid", stage.artifact.data)
    verdict = verify_receipts([kept[-1]], trust, stage.folder / "drop_bid")
    seen = {finding.rule for finding in table.tier1}
    if verdict.verdict != "deviation" or seen != {"3.6"}:
        raise LookupError(f"the receipt shows {verdict.verdict}, the bidder found {seen}")
    return Observed(CAUGHT, "3.6", verdict.findings[0].text, stage.honest)


class Refusing(Auctioneer):
    """Takes no bid of the last seat."""

    def receive(self, data: bytes, time: int) -> bytes:
        """Refuse one bidder's bid."""
        body = m.Statement.decode(data).body
        if isinstance(body, m.Bid) and body.bidder == self.session.seats[-1]:
            raise RefusedError("not today")
        return super().receive(data, time)


@attack(2, "auctioneer", "refuses receipts, censors silently")
def refuse_receipt(stage: Stage) -> Observed:
    """Receipts of f_m + 1 mailboxes convict; without mailboxes the victim alone knows, and a label says so."""
    table = stage.table(Refusing, mailboxes=3, faulty_mailboxes=1)
    table.take_bids(0, RoundPlan(BIDS))
    table.take_openings(0, [0, 1])
    victim = table.session.seats[-1]
    held = [
        (data, receipt)
        for box in table.mailboxes
        for data, receipt in box.held
        if isinstance(body := m.Statement.decode(data).body, m.Bid) and body.bidder == victim
    ]
    trust = table.publish(stage.folder / "refuse", stage.artifact.data)
    enough = [held[0][0], *(receipt for _, receipt in held[:2])]
    verdict = verify_receipts(enough, trust, stage.folder / "refuse")
    too_few = verify_receipts([held[0][0], held[0][1]], trust, stage.folder / "refuse")
    silent = stage.table(Refusing)
    silent.take_bids(0, RoundPlan(BIDS))
    seen = verify_path(stage.folder / "silent", silent.publish(stage.folder / "silent", stage.artifact.data)).labels
    label = [text for text in seen if text.startswith("mailboxes: none")]
    if (verdict.verdict, too_few.verdict, silent.out, len(label)) != ("deviation", "inconclusive", {2}, 1):
        raise LookupError(f"mailboxes show {verdict.verdict}, one alone {too_few.verdict}, label {label}")
    baseline = not stage.judged(mailboxes=3, faulty_mailboxes=1).findings
    return Observed(CAUGHT, "3.7", f"{verdict.findings[0].text}; without mailboxes: {label[0]}", baseline)


@attack(3, "auctioneer", "backdates, takes late bids, bids last")
def late_bid(stage: Stage) -> Observed:
    """A bid after the deadline gets no receipt, and a close that counts it convicts."""
    table = stage.table()
    for seat in (0, 1):
        table.send(table.bidders[seat], table.bidders[seat].presence(0), 0)
        table.send(table.bidders[seat], table.bidders[seat].bid(0, BIDS[seat]), 0)
    table.auctioneer.receive(table.bidders[2].presence(0), 0)
    deadline = table.session.deadline(0, "close")
    table.cosign(deadline - 1)
    table.cosign(deadline + 1, again=True)  # a head stamped after the deadline shows what the log had by then
    late = table.bidders[2].bid(0, BIDS[2])
    text = refusal(lambda: table.auctioneer.receive(late, deadline + 1), RefusedError)
    table.auctioneer.receive(late, deadline)  # backdated: logged all the same, above the size of the deadline
    table.cosign(deadline + 5)
    size = table.auctioneer.log.tree.size
    coms = [bid.com for bid in table.session.round(0).bids.values()]
    listed, root = m.hash_list(coms, ordered=False)
    close = m.Close(
        session=table.session.id, round=0, size=size, root=table.auctioneer.log.tree.root().hex(),
        coms_count=len(coms), coms_root=root, coms=listed,
    )  # fmt: skip
    table.auctioneer._put(close)
    findings = [f for f in table.read_again().findings if f.rule == "3.8"]
    if not findings:
        raise LookupError("a close that counts a late bid passes")
    return Observed(PREVENTED, "3.8", f"{text}; a close that counts it: {findings[0].text}", stage.honest)


@attack(4, "auctioneer", "shows different logs")
def split_view(stage: Stage) -> Observed:
    """Two signed heads of one size, or a smaller one that the larger tree does not extend, convict by themselves."""
    table = stage.played()
    key = table.secrets.auctioneer().log()
    tree = table.auctioneer.log.tree
    true = sign_checkpoint(Checkpoint(key.name, tree.size, tree.root()), key)
    other = sign_checkpoint(Checkpoint(key.name, tree.size, bytes(32)), key)
    earlier = sign_checkpoint(Checkpoint(key.name, 5, bytes(32)), key)
    same = Equivocation(other, true, tree.root(), ())
    prefix = Equivocation(earlier, true, tree.root(5), tuple(tree.consistency(5)))
    for proof in (same, prefix):
        Equivocation.decode(proof.encode()).verify(key.verifier)
    honest = Equivocation(true, true, tree.root(), ())
    refusal(lambda: honest.verify(key.verifier), VerificationError)
    refusal(lambda: same.verify(Secrets.seeded(stage.seed + 1).auctioneer().log().verifier), VerificationError)
    text = f"two signed checkpoints of size {tree.size} with different roots, {len(same.encode())} bytes of evidence"
    return Observed(CAUGHT, "4.13", text, stage.honest)


class OtherMech(Auctioneer):
    """Names another mechanism in its outcomes."""

    def _put(self, body: msgspec.Struct) -> int:
        if isinstance(body, m.Outcome):
            body = msgspec.structs.replace(body, mech="ab" * 32)
        return super()._put(body)  # type: ignore[arg-type]


@attack(5, "auctioneer", "swaps mechanism, weights, opset or runtime")
def swap_artifact(stage: Stage) -> Observed:
    """Another digest convicts at once, drawn or not; another rule under the same digest is the attack `other_rule`."""
    table = stage.table(OtherMech)
    table.play_round(0, RoundPlan(BIDS))
    found = [finding for finding in table.session.findings if finding.rule == "2.14"]
    if not found:
        raise LookupError("another digest in the outcome passes")
    return Observed(CAUGHT, "2.14", found[0].text, stage.honest)


class Overcharging(Auctioneer):
    """Charges everybody its own bid."""

    def claim(
        self, round_index: int, item: RoundInput, output: RoundOutput, seed: bytes
    ) -> tuple[RoundOutput, list[int]]:
        """Raise every payment to the bid for the share."""
        output, won = super().claim(round_index, item, output, seed)
        payment = [
            sum(share * bid for share, bid in zip(shares, bids, strict=True))
            for shares, bids in zip(output.allocation, item.bids, strict=True)
        ]
        return RoundOutput(allocation=output.allocation, payment=payment), won


@attack(6, "auctioneer", "runs another rule, logs its result")
def other_rule(stage: Stage) -> Observed:
    """Re-execution of the drawn round differs; the whole epoch is opened and assessed."""
    return stage.caught(stage.judged(Overcharging, rounds=3, k=1), "7.5")


class Rebidding(Auctioneer):
    """Discloses another bid than the one that was committed to."""

    def disclose(self, round_index: int) -> m.Response:
        """Raise the first bid of the first opening by one."""
        response = super().disclose(round_index)
        first = response.openings[0]
        altered = msgspec.structs.replace(first.body, bids=[first.body.bids[0] + 1, *first.body.bids[1:]])
        opened = [m.OpenedBid(body=altered, nonce=first.nonce), *response.openings[1:]]
        return msgspec.structs.replace(response, openings=opened)


@attack(7, "auctioneer", "alters a bid before computing")
def alter_bid(stage: Stage) -> Observed:
    """The opening does not match the bidder's own commitment."""
    return stage.caught(stage.judged(Rebidding), "7.5")


class TwoBooks(Auctioneer):
    """Delivers rows with another charge than the outcome commits to."""

    def _seal_row(self, index: int, row: m.RowBody, nonce: bytes) -> SealedRow:
        return super()._seal_row(index, msgspec.structs.replace(row, charge=row.charge + 1), nonce)


@attack(8, "auctioneer", "logs one result, charges or delivers another")
def two_books(stage: Stage) -> Observed:
    """Every bidder compares its row with the outcome's commitment, in every round."""
    table = stage.table(TwoBooks)
    table.play_round(0, RoundPlan(BIDS))
    found = [finding for finding in table.tier1 if finding.rule == "3.17"]
    if len(found) < 2:
        raise LookupError(f"bidders found {table.tier1}")
    return Observed(CAUGHT, "3.17", found[0].text, stage.honest)


class AboveBid(Auctioneer):
    """Charges one unit more than the bid for the share."""

    def claim(
        self, round_index: int, item: RoundInput, output: RoundOutput, seed: bytes
    ) -> tuple[RoundOutput, list[int]]:
        """Raise the winner's payment above its bid."""
        output, won = super().claim(round_index, item, output, seed)
        worth = sum(share * bid for share, bid in zip(output.allocation[0], item.bids[0], strict=True))
        return RoundOutput(allocation=output.allocation, payment=[worth + 1, *output.payment[1:]]), won


@attack(9, "auctioneer", "charges above the bid")
def overcharge(stage: Stage) -> Observed:
    """The victim sees it in its own row, without any audit."""
    table = stage.table(AboveBid)
    table.play_round(0, RoundPlan(BIDS))
    found = [finding for finding in table.tier1 if finding.rule == "3.14"]
    if not found:
        raise LookupError("the victim sees nothing")
    return Observed(CAUGHT, "3.14", found[0].text, stage.honest)


class Withholding(Auctioneer):
    """Answers no challenge."""

    def respond(self, epoch: int) -> None:
        """Stay silent."""

    def open_epoch(self, epoch: int) -> None:
        """Stay silent."""


class Selective(Auctioneer):
    """Leaves one opening out of its answers."""

    def disclose(self, round_index: int) -> m.Response:
        """Drop the last opening."""
        response = super().disclose(round_index)
        return msgspec.structs.replace(response, openings=response.openings[:-1])


@attack(10, "auctioneer", "denies the audit, loses openings, answers selectively")
def withhold_response(stage: Stage) -> Observed:
    """Silence past the deadline convicts, and so does a part of an answer."""
    partly = stage.caught(stage.judged(Selective), "7.4")
    table = stage.table(Withholding)
    table.play_round(0, RoundPlan(BIDS))
    table.contribute(0)
    table.auctioneer.publish(table.auditors[0].challenge(0))
    table.cosign(table.session.epoch_deadline(0, "whole") + 1, again=True)
    silent = stage.caught(table.judge(), "7.4")
    return Observed(PREVENTED, "7.4", f"{silent.evidence}; {partly.evidence}", stage.honest)


@attack(11, "auctioneer", "grinds the audit seed by order, delay, retries")
def grind_seed(stage: Stage) -> Observed:
    """Of 10^4 epoch roots it picks the one that spares its round most often, not knowing the bidders' links."""
    source = random.Random(stage.seed)  # noqa: S311 - plays the attack
    own, rounds, cheat, kept = "aa" * 32, range(10), 3, "bb" * 32
    hit = trials = 0
    for trial in range(250):
        honest = derive(trial.to_bytes(32, "big"), b"link").hex()
        roots = [source.randbytes(32).hex() for _ in range(40)]
        guess = {own: "11" * 32, kept: "22" * 32}  # it knows its own link and guesses the other
        spared = [root for root in roots if cheat not in draw_fixed(audit_seed("", 0, root, guess), rounds, 3)]
        seed = audit_seed("", 0, (spared or roots)[0], {own: "11" * 32, kept: honest})
        hit += cheat in draw_fixed(seed, rounds, 3)
        trials += 1
    text = f"of 10,000 orders it chose 250: its round is drawn in {hit / trials:.3f} of them, fair is 0.3"
    return Observed(PREVENTED, "5.2", text, stage.honest, {"drawn": hit / trials, "fair": 0.3, "trials": trials})


@attack(13, "auctioneer and beacon nodes", "know the coin early, cheat elsewhere")
def known_beacon(stage: Stage) -> Observed:
    """With the beacon known and its own link chosen, one honest contribution leaves the draw uniform."""
    rounds, counts, trials = range(10), [0] * 10, 4000
    for trial in range(trials):
        links = {"aa" * 32: "11" * 32, "bb" * 32: derive(trial.to_bytes(32, "big"), b"honest").hex()}
        for index in draw_fixed(audit_seed("", 0, "00" * 32, links, "ab" * 48), rounds, 1):
            counts[index] += 1
    chi = sum((count - trials / 10) ** 2 / (trials / 10) for count in counts)
    if chi > 27.88:  # 0.999 quantile of chi-square with 9 degrees of freedom
        raise LookupError(f"the draw is not uniform: chi-square {chi:.1f}")
    text = f"drawn rounds are uniform: chi-square {chi:.1f} with 9 degrees of freedom over {trials:,} draws"
    return Observed(PREVENTED, "5.5", text, stage.honest, {"chi_square": chi})


@attack(14, "auctioneer", "grinds a lottery to choose its winner")
def grind_lottery(stage: Stage) -> Observed:
    """The seed needs links that bidders reveal after the close; winners then follow their shares."""
    shares, trials, won = [[64], [192]], 4000, 0
    for trial in range(trials):
        links = {"aa" * 32: "11" * 32, "bb" * 32: derive(trial.to_bytes(32, "big"), b"bidder").hex()}
        won += draw_winners(shares, lottery_seed("", 0, "00" * 32, links), 8, "per_item") == [0]
    rate, error = won / trials, (0.25 * 0.75 / trials) ** 0.5
    if abs(rate - 0.25) > 4 * error:
        raise LookupError(f"a share of 0.25 wins {rate:.3f}")
    text = f"a share of 0.25 wins {rate:.4f} +- {error:.4f} over {trials:,} rounds; aborts are priced (9.12)"
    return Observed(PREVENTED, "5.7", text, stage.honest, {"rate": rate, "error": error})


@attack(15, "auctioneer", "aborts a bad round, stops early, sells off the log")
def skip_round(stage: Stage) -> Observed:
    """A round without close or outcome past its deadline convicts; sales off the log are out of scope (1.8)."""
    table = stage.table(rounds=2)
    table.play_round(0, RoundPlan(BIDS))
    table.cosign(table.session.deadline(1, "outcome") + 1, again=True)
    return stage.caught(table.judge(), "6.5")


class Spoofing(Auctioneer):
    """States a mask of its own: the last seat is gone."""

    def _put(self, body: msgspec.Struct) -> int:
        if isinstance(body, m.Outcome):
            body = msgspec.structs.replace(body, mask=encode_mask([1, 1, 0]))
        return super()._put(body)  # type: ignore[arg-type]


@attack(16, "auctioneer or sybil", "spoofs participation to switch the rule")
def spoof_profile(stage: Stage) -> Observed:
    """Presence is signed and logged before bids, so everybody recomputes the mask."""
    table = stage.table(Spoofing)
    table.play_round(0, RoundPlan(BIDS))
    found = [finding for finding in table.read_again().findings if finding.rule == "3.13"]
    if not found:
        raise LookupError("a spoofed mask passes")
    return Observed(PREVENTED, "3.13", found[0].text, stage.honest)


class OneUnit(Auctioneer):
    """Changes one integer of the result by one."""

    seat, field, item = 0, "payment", 0

    def claim(
        self, round_index: int, item: RoundInput, output: RoundOutput, seed: bytes
    ) -> tuple[RoundOutput, list[int]]:
        """Change one output of one seat."""
        output, won = super().claim(round_index, item, output, seed)
        allocation, payment = [list(row) for row in output.allocation], list(output.payment)
        if self.field == "payment":
            payment[self.seat] += 1
        else:
            allocation[self.seat][self.item] += 1 if allocation[self.seat][self.item] == 0 else -1
        return RoundOutput(allocation=allocation, payment=payment), won


@attack(17, "auctioneer", "hides a gain in rounding")
def one_unit(stage: Stage) -> Observed:
    """Every output off by one unit is a deviation; there is no band."""
    found = 0
    for seat in range(3):
        for field, item in (("payment", -1), ("allocation", 0), ("allocation", 1)):
            cheat = type("OneUnitHere", (OneUnit,), {"seat": seat, "field": field, "item": item})
            found += any(finding.rule == "7.5" for finding in stage.judged(cheat).findings)
    if found != 9:
        raise LookupError(f"{found} of 9 changes by one unit are found")
    return Observed(PREVENTED, "7.5", "9 of 9 outputs that are off by one unit convict", stage.honest, {"found": found})


@attack(18, "auctioneer", "shill bids after seeing bids")
def late_shill(stage: Stage) -> Observed:
    """Nobody registers after registration closed, and before the close there is nothing to read."""
    table = stage.table(bidders=2)
    shill = Bidder(table.secrets.bidder(7, "shill"), table.session)
    text = refusal(lambda: table.auctioneer.receive(shill.registration(), 0), RefusedError)
    table.send(table.bidders[0], table.bidders[0].presence(0), 0)
    data = table.bidders[0].bid(0, BIDS[0])
    table.send(table.bidders[0], data, 0)
    refusal(lambda: table.bidders[0].opening(0), ValueError)  # the honest bidder opens nothing before the close
    if set(msgspec.json.decode(data)["body"]) != {"bidder", "com", "prev", "round", "seq", "session"}:
        raise LookupError("the bid shows more than a commitment")
    return Observed(PREVENTED, "6.3", f"{text}; a bid of profile P1 is only a commitment", stage.honest)


@attack(19, "auctioneer", "blind shills under registered names")
def blind_shill(stage: Stage) -> Observed:
    """A shill that bids like anybody else is not convicted; what it gains is a figure of the mechanism."""
    revenue = {}
    for name, plan in (("without", {0: BIDS[0], 1: BIDS[1]}), ("with", {**BIDS, 2: [450, 600]})):
        table = stage.table()
        table.play_round(0, RoundPlan(plan))
        table.end_epoch(0)
        if table.judge().findings:
            raise LookupError("a blind shill is convicted")
        revenue[name] = table.revenue / (1 << table.manifest.share_bits)
    gain = revenue["with"] - revenue["without"]
    text = f"not convicted; revenue {revenue['without']:g} without it, {revenue['with']:g} with it, a secret reserve"
    return Observed(OPEN, "1.8", text, stage.honest, {"gain": gain})


@attack(20, "auctioneer", "many shills, opens the best")
def best_of_shills(stage: Stage) -> Observed:
    """Each shill that is not opened forfeits at least the largest gain of a round."""
    table = stage.table()
    table.play_round(0, RoundPlan({0: BIDS[0], 1: [499, 0], 2: [300, 0]}, silent=frozenset({2})))
    table.end_epoch(0)
    money = table.manifest.money
    forfeited = table.session.bidders[table.session.seats[2]].forfeited
    gain = table.revenue - (100 << table.manifest.share_bits)  # against the reserve alone
    if forfeited < money.gain_bound or gain - forfeited > 0:
        raise LookupError(f"gain {gain}, forfeited {forfeited}")
    text = f"gains {gain:,} fine units of the unopened bid's round, forfeits {forfeited:,}"
    return Observed(PREVENTED, "9.9", text, stage.honest, {"net": gain - forfeited})


@attack(30, "auctioneer", "comes back under a new identity after being caught")
def whitewash(stage: Stage) -> Observed:
    """Every session locks its own deposit before it starts: a new name has none."""
    manifest = stage.table().manifest
    money = msgspec.structs.replace(manifest.money, deposit=0)
    text = refusal(lambda: msgspec.structs.replace(manifest, money=money), ValueError)
    return Observed(PREVENTED, "9.9", text, stage.honest)


@attack(38, "auctioneer", "is insolvent when penalised")
def insolvent(stage: Stage) -> Observed:
    """A deposit below the penalty, or a penalty below what cheating gains, is refused at setup."""
    table = stage.table()
    manifest = table.manifest
    low = msgspec.structs.replace(manifest.money, deposit=manifest.money.penalty - 1)
    first = refusal(lambda: msgspec.structs.replace(manifest, money=low), ValueError)
    cheap = msgspec.structs.replace(manifest.money, penalty=manifest.money.penalty - 1)
    weak: Manifest = msgspec.structs.replace(manifest, money=cheap)
    second = refusal(lambda: check_manifest_stakes(weak), VerificationError)
    check_manifest_stakes(manifest)
    return Observed(PREVENTED, "9.9", f"{first}; {second}", stage.honest)


@attack(34, "auctioneer", "learns the audited rounds before outcomes are sealed")
def early_coin(stage: Stage) -> Observed:
    """Before the epoch root is fixed nobody has revealed a link, and the log has no seed."""
    table = stage.table(rounds=4, k=1)
    for index in range(4):
        if table.session.seed(0) is not None:
            raise LookupError("the seed is known before the epoch root")
        table.play_round(index, RoundPlan(BIDS))
    text = refusal(lambda: table.auctioneer.receive(table.bidders[0].contribution(0), 0), RefusedError)
    table.contribute(0)
    if table.session.seed(0) is None:
        raise LookupError("the seed stays unknown")
    return Observed(PREVENTED, "5.2", f"no seed before the epoch root; {text}", stage.honest)
