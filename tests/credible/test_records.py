"""The real record: loading, replay, exceptions; facts from the data's README, nothing hard-coded in the code."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from credible.cli import run_command
from credible.records.replay import Replay, explain
from credible.records.tables import read_table
from credible.records.tsuchiura import load, paired_rounds
from credible.simulation.market import Market, trust_path
from credible.simulation.setup import Rules, Secrets
from protocol.errors import MalformedError
from protocol.verify import Trust, verify_path
from tests.conftest import RECORD


def test_facts_of_the_record() -> None:  # examples/data/tsuchiura-procurement/README.md
    auctions = load(RECORD)
    assert len(auctions) == 1565
    assert sum(len(a.bids) for a in auctions) == 6013
    statuses = Counter(bid.status for a in auctions for bid in a.bids)
    assert statuses == {"lost": 4212, "won": 1552, "won_by_lottery": 9, "invalid": 240}
    assert sum(any(bid.won for bid in a.bids) for a in auctions) == 1561
    assert sum(bid.price is None for a in auctions for bid in a.bids) == 41
    assert sum(len({b.firm for b in a.bids}) < len(a.bids) for a in auctions) == 27
    replay = Replay(auctions)
    assert len(set(replay.seats)) == len(replay.seats) == 280
    assert all(len({b.seat for b in row}) == len(row) for row in replay.seated)


def play(auctions: list, folder: Path) -> tuple[Replay, Market]:  # type: ignore[type-arg]
    replay = Replay(auctions)
    rounds = len(auctions)
    rules = Rules("record", rounds, k=rounds, draw="recorded", charge="realised", largest_round=18, seeded=True)
    with Market(folder, replay.build_rule().data, rules, replay, Secrets.seeded(2), config=b"{}", keep=True) as market:
        market.run()
        findings = market.audit_findings()
    market.findings = findings  # type: ignore[attr-defined]
    return replay, market


def chosen() -> list:  # type: ignore[type-arg]
    """A slice of the record with ties, a lottery, an auction without winner, unpriced rows and disqualifications."""
    wanted = {192, 222, 246, 273, 410, 423, 1095, 1645}
    auctions = load(RECORD)
    return auctions[:12] + [a for a in auctions[12:] if a.number in wanted]


def test_altering_one_recorded_winner_gives_exactly_one_more_exception(tmp_path: Path) -> None:
    auctions = chosen()
    replay, market = play(auctions, tmp_path / "true")
    exceptions, classes = explain(replay, market.findings)  # type: ignore[attr-defined]
    assert {e.auction for e in exceptions} == {192, 246, 273, 423, 1095, 1645}
    assert classes["lottery"] == 2
    assert sum(classes.values()) == len(auctions)
    verdict = verify_path(tmp_path / "true", Trust.read(trust_path(tmp_path / "true")))
    assert verdict.status == 1
    assert {f.round for f in verdict.findings} == {e.round for e in exceptions}
    assert verdict.checked["lottery"] == 2

    path = tmp_path / "altered.csv"
    with (RECORD / "bids.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    listed = [row for row in rows if row["auction"] == str(auctions[3].number)]
    winner = next(row for row in listed if row["status"] == "won")
    loser = next(row for row in listed if row["status"] == "lost")
    winner["status"], loser["status"] = "lost", "won"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    numbers = {a.number for a in auctions}
    altered = [a for a in load(path) if a.number in numbers]
    replay, market = play(altered, tmp_path / "false")
    more, _ = explain(replay, market.findings)  # type: ignore[attr-defined]
    assert {e.round for e in more} == {e.round for e in exceptions} | {3}
    assert next(e for e in more if e.round == 3).kind == "other_winner"


def test_pairs_of_simultaneous_auctions() -> None:
    rounds = paired_rounds(load(RECORD), 4, seed=1)
    profiles = [profile for day in rounds.values() for profile in day]
    assert len(profiles) > 600
    assert all(len(profile) == 4 for profile in profiles)
    assert any(seat is None for profile in profiles for seat in profile)
    assert all(0 <= v < 10**6 for profile in profiles for seat in profile if seat for v in seat)
    assert paired_rounds(load(RECORD), 4, seed=1) == rounds != paired_rounds(load(RECORD), 4, seed=2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda rows: rows[5].update(bid_yen="12x"), "line 7: column bid_yen: wanted an integer, got '12x'"),
        (lambda rows: rows[5].update(bid_yen="1_000"), "line 7"),
        (lambda rows: rows[5].update(status="maybe"), "line 7: status 'maybe'"),
        (lambda rows: rows[1].update(reserve_yen="5"), "line 3: auction 1 has another"),
        (lambda rows: rows[5].update(minimum_yen="99999999999"), "line 7"),
    ],
)
def test_malformed_records_name_file_and_line(tmp_path: Path, change, text: str) -> None:  # type: ignore[no-untyped-def]
    with (RECORD / "bids.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:20]
    change(rows)
    path = tmp_path / "bids.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(MalformedError, match=text):
        load(path)
    assert run_command(["replay", str(path), "--out", str(tmp_path / "s")]) == 3
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("data", [b"", b"a,b\n1\n", b"\xff\n", b"a,a\n1,2\n", b'a,b\n"1,2\n'])
def test_other_tables_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(MalformedError, match="t.csv"):
        list(read_table(path, ("a", "b")))
