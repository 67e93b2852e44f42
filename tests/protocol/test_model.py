"""What follows from the model: broadcast, tiers, assumptions, ids, money, what is learnt (spec 1, 2.8 to 2.12, 6.7)."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from credible.cli.verify import verdict_lines
from credible.simulation.attacks.auctioneers import Overcharging
from credible.simulation.market import trust_path
from credible.simulation.setup import Secrets
from protocol import messages as m
from protocol.artifact import RoundInput, build
from protocol.artifact.static import CheckedArtifact
from protocol.auctioneer import Auctioneer, SealedRow
from protocol.encoding import hash_of
from protocol.log.note import Note
from protocol.log.tiles import TileDirectory
from protocol.log.tree import Tree, leaf_hash
from protocol.penalties import gain_bound
from protocol.randomness.tickets import audit_seed, by_ticket
from protocol.verify import Trust, load_public, verify_path
from tests.harness import Table, rules_of

BIDS = {0: [5, 6], 1: [7, 3], 2: [1, 1]}
ZERO = "00" * 32


@pytest.fixture(scope="module")
def artifact() -> CheckedArtifact:
    return build.single_item_reserve([0, 2], bidders=3, bid_max=1000, share_bits=8, unit="1")


@pytest.mark.parametrize("change", ["drop", "alter", "insert", "swap"])
def test_a_log_that_was_changed_is_not_the_one_that_was_cosigned(  # spec 1.1
    honest: Path, tmp_path: Path, change: str
) -> None:
    public = honest / "public"
    loaded = load_public(public, None)
    entries = [entry for _, entry in loaded.entries]
    bid = next(i for i, entry in enumerate(entries) if isinstance(m.Statement.decode(entry).body, m.Bid))
    changed = list(entries)
    if change == "drop":
        del changed[bid]
    elif change == "alter":
        changed[bid] = entries[bid].replace(b'"seq":', b'"seq":1')
    elif change == "insert":
        changed.insert(bid, entries[bid])
    else:
        changed[bid], changed[bid + 1] = changed[bid + 1], changed[bid]
    changed = (changed + entries[-1:])[: len(entries)]  # of the size that the checkpoint states
    history = sorted(loaded.checkpoints, key=lambda item: item.checkpoint.size)
    head = Note.decode((public / "checkpoint").read_bytes())
    TileDirectory(tmp_path).write(
        Tree(map(leaf_hash, changed)), changed, head, durable=False, history=[item.data for item in history]
    )
    for name in ("manifest.json", "policy.txt", "artifact.onnx"):
        (tmp_path / name).write_bytes((public / name).read_bytes())
    assert verify_path(tmp_path).verdict == "invalid"


def test_what_the_network_repeats_and_reorders_changes_no_result(artifact: CheckedArtifact) -> None:  # spec 1.2
    results = []
    for seed in range(4):
        source = random.Random(seed)
        table = Table(artifact, rounds=1)
        for seat in source.sample(sorted(BIDS), 3):
            data = table.bidders[seat].presence(0)
            assert len({table.send(table.bidders[seat], data, table.manifest.start) for _ in range(3)}) == 1
        bids = [(seat, table.bidders[seat].bid(0, BIDS[seat])) for seat in BIDS]
        source.shuffle(bids)
        for _ in range(2):
            for seat, data in bids:
                table.send(table.bidders[seat], data, table.manifest.start + 60)
        table.cosign(table.session.deadline(0, "close") - 1)
        table.auctioneer.close(0)
        table.open(0, BIDS)
        table.settle(0)
        assert table.tier1 == table.end() == []
        matrix = table.auctioneer.matrices[0]
        results.append((matrix.allocation, matrix.payment, matrix.charge))
    assert results == results[:1] * 4


def test_one_honest_contributor_is_enough() -> None:  # spec 1.3, 5.5
    known = {"aa" * 32: "11" * 32, "bb" * 32: "22" * 32}
    honest = "cc" * 32
    first = Counter[int]()
    for value in range(3000):
        seed = audit_seed(ZERO, 0, ZERO, {**known, honest: f"{value:064x}"})
        first[by_ticket(seed, range(10))[0]] += 1
    expected = 300
    assert sum((first[index] - expected) ** 2 / expected for index in range(10)) < 27.9  # chi-square, 99.9 %
    copied = audit_seed(ZERO, 0, ZERO, {**known, honest: "22" * 32})
    assert copied != audit_seed(ZERO, 0, ZERO, {"aa" * 32: "11" * 32})  # a copied value cancels nothing


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"charge": 1}, "3.16"),
        ({"payment": 10**6, "charge": 10**6}, "3.14"),
        ({"payment": -1, "charge": -1}, "3.14"),
        ({"shares": [300, 0]}, "3.14"),
        ({"shares": [0]}, "3.14"),
        ({"won": [0, 1]}, "3.15"),
        ({"won": [9]}, "3.15"),
        ({"round": 1}, "3.17"),
    ],
)
def test_every_bidder_checks_its_own_row_in_every_round(  # spec 1.4, 3.18
    artifact: CheckedArtifact, changes: dict[str, Any], rule: str
) -> None:
    class Bending(Auctioneer):
        def _seal_row(self, index: int, row: m.RowBody, nonce: bytes) -> SealedRow:
            bent = msgspec.structs.replace(row, **changes) if row.seat == 1 else row
            return super()._seal_row(index, bent, nonce)

    for auctioneer, wanted in ((Auctioneer, set[str]()), (Bending, {rule})):
        table = Table(artifact, rounds=1, auctioneer=auctioneer)
        table.play(0, BIDS)
        assert wanted <= rules_of(table.tier1)
        assert bool(table.tier1) == bool(wanted)


@pytest.mark.parametrize(("field", "value"), [("outcome", 0), ("round", 1), ("session", ZERO)])
def test_a_row_that_cites_another_outcome_is_none(  # spec 3.18
    artifact: CheckedArtifact, field: str, value: Any
) -> None:
    table = Table(artifact, rounds=1)
    table.play(0, BIDS)
    body = m.Row(
        session=table.session.id,
        round=0,
        outcome=table.session.round(0).outcome_index,
        row=row_of(table, 1),
        nonce=ZERO,
    )
    assert "3.18" not in rules_of(table.bidders[1].check_row(0, sealed_to(table, 1, body))[0])
    bent = msgspec.structs.replace(body, **{field: value})
    assert "3.18" in rules_of(table.bidders[1].check_row(0, sealed_to(table, 1, bent))[0])


def row_of(table: Table, seat: int) -> m.RowBody:
    from protocol.outcomes import rows_of

    return rows_of(table.auctioneer.matrices[0])[seat]


def sealed_to(table: Table, seat: int, body: m.Row) -> bytes:
    from protocol.keys import derive_seal_key, seal
    from protocol.outcomes import row_info

    party = table.session.seats[seat]
    info = row_info(table.session.id, 0, table.session.auctioneer.party, party)
    data = m.sign_statement(body, table.secrets.auctioneer().signing())
    return seal(data, table.session.bidders[party].seal_key, info, derive_seal_key(bytes([5]) * 32))


def test_a_cheat_below_the_bid_is_invisible_to_its_victim(artifact: CheckedArtifact) -> None:  # spec 1.5
    table = Table(artifact, rounds=1, auctioneer=Overcharging)
    table.play(0, BIDS)
    assert table.tier1 == []
    assert rules_of(table.end()) == {"7.5"}


def test_the_public_log_shows_bids_of_drawn_rounds_only(artifact: CheckedArtifact) -> None:  # spec 1.7
    table = Table(artifact, rounds=4, k=1)
    for index in range(4):
        table.play(index, BIDS)
    assert table.end() == []
    drawn = table.session.drawn(0)
    shown = [m.Statement.decode(entry).body for entry in table.auctioneer.log.entries if b'"bids":[' in entry]
    assert [body.round for body in shown if isinstance(body, m.Response)] == drawn
    assert len(shown) == 1
    who = {body.bidder for entry in table.auctioneer.log.entries
           if isinstance(body := m.Statement.decode(entry).body, m.Presence)}  # fmt: skip
    assert who == set(table.session.seats)  # who took part is public


def test_a_verdict_says_what_it_does_not_show(honest: Path) -> None:  # spec 1.8
    (line,) = [
        line
        for line in verdict_lines(honest, verify_path(honest, Trust.read(trust_path(honest))))
        if line.startswith("not shown")
    ]
    for word in ("values", "collusion", "shill", "delivery"):
        assert word in line


def test_a_verdict_says_how_many_rounds_were_not_run_again_and_whose_words_its_labels_are(honest: Path) -> None:
    verdict = verify_path(honest, Trust.read(trust_path(honest)))
    rounds, again = verdict.checked["outcome statements"], verdict.checked["rounds re-executed"]
    assert 0 < again < rounds
    lines = verdict_lines(honest, verdict)
    assert f"not re-executed: {rounds - again} of {rounds} rounds (spec 1.5)" in lines
    assert lines[lines.index("labels:") + 1 :] == [f"  {label}" for label in verdict.labels]


def test_signature_bytes_are_no_identity(artifact: CheckedArtifact) -> None:  # spec 2.8
    body = m.Presence(session=ZERO, round=0, bidder=ZERO, present=True)
    one, two = (m.Statement.decode(m.sign_statement(body, Secrets.seeded(s).auditor())) for s in (1, 2))
    assert one.data != two.data
    assert one.identity == two.identity == hash_of("presence", body).hex()


def test_ids_are_hashes_of_what_they_name(artifact: CheckedArtifact) -> None:  # spec 2.11
    table = Table(artifact, rounds=1)
    manifest, session = table.manifest, table.session
    assert session.id == manifest.session == hash_of("manifest", manifest).hex()
    assert session.auctioneer.party == hashlib.sha256(manifest.auctioneer.encode()).hexdigest()
    assert manifest.mech == hashlib.sha256(artifact.data).hexdigest()
    assert manifest.items_hash == hash_of("items", manifest.items).hex()
    other = msgspec.structs.replace(manifest, label="other")
    assert other.session != manifest.session
    assert session.seats == [bidder.party for bidder in table.bidders]


def test_money_counts_fine_units(artifact: CheckedArtifact) -> None:  # spec 2.12
    table = Table(artifact, rounds=1, seed=9)
    table.play(0, BIDS)
    assert table.end() == []
    matrix, header = table.auctioneer.matrices[0], artifact.header
    assert matrix.payment == [2 * 256 * 0 + 3 * 256, 5 * 256, 0]  # second prices 3 and 5 on the grid
    assert table.manifest.money.gain_bound == gain_bound(2, header.bid_max, header.share_bits) == 2 * 1000 * 256
    assert table.revenue == sum(matrix.charge)


def test_state_is_a_function_of_the_log_and_deposits_come_back(artifact: CheckedArtifact) -> None:  # spec 6.7
    table = Table(artifact, rounds=2)
    table.play(0, BIDS)
    table.play(1, BIDS, silent=[2])
    assert table.end() == []
    one, two = table.read_again(), table.read_again()
    assert one.rounds == two.rounds == table.session.rounds
    assert one.epochs == two.epochs
    assert any(table.book.balances[bidder.party] for bidder in table.bidders)
    table.release()
    assert all(table.book.balances.get(bidder.party, 0) == 0 for bidder in table.bidders)
    assert table.book.total() == 0


def test_honest_execution_never_differs() -> None:  # spec 9.13: the rate of false alarms is 0
    from protocol.artifact.engine import Engine

    source = random.Random(4)
    menu = [[[source.randrange(100) for _ in range(2)] for _ in range(2)] for _ in range(12)]
    boosts = [source.randrange(-10_000, 10_000) for _ in range(12)]
    engine = Engine(build.menu_affine(menu, boosts, [3, 5], bid_max=1000, share_bits=8, unit="1").data)
    rounds = [
        RoundInput(
            bids=[[source.randrange(1001) for _ in range(2)] for _ in range(2)],
            participation=[source.randrange(2), source.randrange(2)],
            context=[],
        )
        for _ in range(300)
    ]
    assert engine.run(rounds) == engine.judge(rounds) == [engine.run([item])[0] for item in rounds]
