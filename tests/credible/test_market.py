"""`credible market`, `credible plot` and `credible report` as a user types them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from credible.cli import run_command
from credible.cli.plot import QUESTIONS
from protocol.artifact import build
from tests.conftest import RECORD

AUCTION = build.single_item_reserve([300], bidders=3, bid_max=1000, share_bits=8, unit="1 cent")
SMALL = ["--sessions", "20", "--session", "20", "--seed", "1"]


@pytest.fixture
def auction(tmp_path: Path) -> Path:
    path = tmp_path / "auction.onnx"
    path.write_bytes(AUCTION.data)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run_command([*map(str, arguments), "--json"]) == status
    captured = capsys.readouterr()
    return dict(json.loads(captured.out)) if status == 0 else {"error": captured.err}


def test_a_market_is_the_same_however_it_is_cut_and_goes_on(
    auction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["market", auction, "--rounds", "60000", "--session", "20", "--seed", "3", "--auctioneer", "inflate:0.2"]
    whole = run(capsys, *options, "--processes", "1")
    for key in ("rounds", "seconds", "revenue", "welfare", "auctioneer_profit", "peak_rss_bytes"):
        assert key in whole
    assert whole["sessions"] == 3000
    assert whole["deviations"] > 0
    state = tmp_path / "state.jsonl"
    kept = run(capsys, *options, "--processes", "2", "--out", state)
    lines = state.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    state.write_bytes(b"".join(lines[:2]) + lines[2][:50])  # cut off in the middle of a write
    again = run(capsys, *options, "--processes", "1", "--out", state)
    for key in ("rounds", "revenue", "welfare", "auctioneer_profit", "audited", "penalties", "per_session"):
        assert whole[key] == kept[key] == again[key], key
    assert "another market" in run(capsys, *options[:-1], "inflate:0.3", "--out", state, status=2)["error"]
    assert "--seed" in run(capsys, "market", auction, "--out", state, status=2)["error"]
    good = state.read_bytes()
    lines = good.splitlines(keepends=True)
    for damaged in (good + lines[1], b"".join(lines[:1]) + b'{"block":0}\n', lines[0] + b"[1]\n", b"\xff\xfe"):
        state.write_bytes(damaged)
        run(capsys, *options, "--out", state, status=3)
        assert state.read_bytes() == damaged
    notes = tmp_path / "notes.txt"
    notes.write_text("mine, without a newline")
    run(capsys, *options, "--out", notes, status=3)
    assert notes.read_text() == "mine, without a newline"


def test_an_agent_that_changed_is_another_market(
    auction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, state = tmp_path / "own.py", tmp_path / "state.jsonl"
    text = "from credible.simulation.agents import Bidder\nclass Mine(Bidder):\n    kind = 1\n"
    own.write_text(text)
    options = ["market", auction, "--rounds", "40", "--session", "20", "--seed", "3", "--bidders", f"{own}:Mine"]
    run(capsys, *options, "--out", state)
    own.write_text(text.replace("1", "2"))
    assert "another market" in run(capsys, *options, "--out", state, status=2)["error"]


def test_few_markets_tell_little_and_say_so(auction: Path, capsys: pytest.CaptureFixture[str]) -> None:
    single = run(capsys, "market", auction, "--rounds", "1", "--session", "1", "--seed", "1")
    assert single["per_session"]["revenue_se"] is None
    options = ["--rounds", "20", "--session", "20", "--seed", "1", "--auctioneer", "random:1", "--q", "1/1000"]
    assert run_command(["market", str(auction), *options]) == 0
    assert "so few markets cannot tell" in capsys.readouterr().out


def test_wrong_markets_are_refused_in_words(auction: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, text in (
        (["--bidders", "nobody"], "wanted one of truthful"),
        (["--auctioneer", "inflate:2"], "at most 1"),
        (["--preset", "sometimes"], "wanted published or prompt"),
        (["--context", "5"], "takes none"),
        (["--setting", "additive_2x2_uniform"], "is for 2 x 2"),
        (["--q", "0"], "above 0"),
        (["--preset", "published", "--k", "2000"], "wanted 1 to 1000"),
        (["--factor", "10000000000000"], "2^53"),
        (["--q", "1/1000000000000000000"], "2^53"),
        (["--seed", "99999999999999999999"], "seed"),
        (["--participation", "nan"], "wanted 0 to 1"),
        (["--auctioneer", "optimal", "--epoch", "900", "--rounds", "1000000", "--session", "100000"], "thresholds"),
    ):
        assert text in run(capsys, "market", auction, "--rounds", "1000", *options, status=2)["error"].replace(
            "\n", " "
        )
    run(capsys, "market", auction.with_name("none.onnx"), status=3)


def test_every_question_is_answered_with_a_figure(
    auction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for question in QUESTIONS:
        for preset in ("prompt", "published") if question in ("region", "detection", "best") else ("prompt",):
            figure = tmp_path / f"{question}.svg"
            answer = run(capsys, "plot", question, auction, "-o", figure, "--preset", preset, *SMALL)
            assert answer["question"] == question
            assert answer["rows"]
            drawn = figure.read_text(encoding="utf-8")
            assert "<svg" in drawn
            assert "mathdefault" not in drawn  # powers on axes are written out
    for name in ("figure.pdf", "figure.png"):
        run(capsys, "plot", "audit-cost", auction, "-o", tmp_path / name, *SMALL)
        assert (tmp_path / name).stat().st_size > 1000
    assert "ends in" in run(capsys, "plot", "region", auction, "-o", tmp_path / "a.txt", *SMALL, status=2)["error"]
    assert "wanted one of" in run(capsys, "plot", "why", auction, "-o", tmp_path / "a.svg", *SMALL, status=2)["error"]
    assert (
        "one artifact"
        in run(capsys, "plot", "region", auction, auction, "-o", tmp_path / "a.svg", *SMALL, status=2)["error"]
    )


def test_a_shill_gains_exactly_where_the_mechanism_is_not_optimal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for name, reserve in (("vcg", 0), ("myerson", 500)):
        files.append(tmp_path / f"{name}.onnx")
        made = build.single_item_reserve([reserve], bidders=3, bid_max=1000, share_bits=8, unit="1 cent")
        files[-1].write_bytes(made.data)
    options = ["-o", tmp_path / "a.svg", "--sessions", "300", "--session", "40", "--seed", "1"]
    rows = run(capsys, "plot", "shills", *files, *options)["rows"]
    gains = {(row["mechanism"], row["level"]): row["gain"] / row["revenue_without"] for row in rows}
    assert gains["vcg", 0.5] > 0.15  # two uniform bidders: reserve 1/2 earns 5/12 for 1/3
    assert all(gain <= 0 for (name, _), gain in gains.items() if name == "myerson")


class Page(HTMLParser):
    """What a page holds, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self._quiet = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "svg":
            self.pictures.append(values)
        self._quiet += tag in ("style", "svg", "script")
        assert tag != "script"
        self.links += [value or "" for name, value in attrs if name in ("href", "src") and tag != "image"]

    def handle_endtag(self, tag: str) -> None:
        self._quiet -= tag in ("style", "svg", "script")

    def handle_data(self, data: str) -> None:
        if not self._quiet and data.strip():
            self.text.append(data.strip())


def page_of(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def test_a_report_says_first_whether_to_trust(
    auction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, agent in (("honest", "honest"), ("crooked", "inflate:1")):
        options = ["--rounds", "10", "--q", "1/2", "--seed", "1", "--auctioneer", agent]
        run(capsys, "simulate", auction, *options, "--out", tmp_path / name)
    run(capsys, "audit", tmp_path / "crooked", status=1)
    (tmp_path / "unpinned").mkdir()
    for file in (tmp_path / "honest" / "public").rglob("*"):
        target = tmp_path / "unpinned" / file.relative_to(tmp_path / "honest" / "public")
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.is_file():
            target.write_bytes(file.read_bytes())
    said = {}
    for name in ("honest", "crooked", "unpinned"):
        made = run(capsys, "report", tmp_path / name, "-o", tmp_path / f"{name}.html")
        assert made["bytes"] < 2_000_000
        page = page_of(tmp_path / f"{name}.html")
        said[name] = " ".join(page.text[:8])
        assert all(picture["aria-label"] for picture in page.pictures)
        assert all(link.startswith("#") for link in page.links)
    assert "No cheating found in the" in said["honest"]
    assert "Do not trust this session: the auctioneer broke the rules." in said["crooked"]
    assert "No verdict" in said["unpinned"]
    assert "crooked.evidence/epoch-0" in (tmp_path / "crooked.html").read_text(encoding="utf-8")
    together = run(capsys, "report", tmp_path / "honest", tmp_path / "crooked", "-o", tmp_path / "both.html")
    assert together["sessions"] == ["honest", "crooked"]
    text = " ".join(page_of(tmp_path / "both.html").text)
    assert text.index("Do not trust") < text.index("No cheating found")  # the worst comes first


def test_reports_of_mechanisms_and_reproductions(
    auction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    run(capsys, "report", auction, "-o", page)
    text = " ".join(page_of(page).text)
    assert "No bidder can gain by misreporting" in text
    assert "300" in text  # the price that a lone bidder pays
    rows = [
        {"table": "1", "setting": "additive_2x2_uniform", "method": method, "dsic": dsic, "revenue": 0.87,
         "revenue_se": 0.001, "regret": 0.0, "published_revenue": 0.868, "published_regret": None, "seconds": 1.0}
        for method, dsic in (("lottery-ama", "exact"), ("<script>", "approx"))
    ]  # fmt: skip
    made = tmp_path / "table.json"
    made.write_text(json.dumps({"paper": "lottery-ama", "rows": rows, "notes": ["a note"]}))
    run(capsys, "report", made, "-o", page)
    text = page.read_text(encoding="utf-8")
    assert "2 results, 2 with a published figure beside, 1 exactly truthful." in text
    assert "<script>" not in text
    made.write_text("{}")
    run(capsys, "report", made, "-o", page, status=3)
    made.write_text("[")
    run(capsys, "report", made, "-o", page, status=3)
    before = auction.read_bytes()
    assert "choose another" in run(capsys, "report", auction, "-o", auction, status=2)["error"]
    assert auction.read_bytes() == before
    for text in ("{}", '{"revenue": 1}', '{"revenue": 1, "baselines": []}'):
        made.write_text(text)
        run(capsys, "report", auction, "-o", page, "--evaluation", made, status=3)
    odd = build.single_item_reserve([300, 300, 1000], bidders=3, bid_max=1000, share_bits=8, unit="1/0 of $\\bad$")
    auction.write_bytes(odd.data)
    run(capsys, "report", auction, "-o", page)
    assert "any 1 item" not in page.read_text(encoding="utf-8")  # not every bundle is offered at one price


def test_a_session_that_nobody_drew_is_not_called_clean(
    auction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--rounds", "6", "--q", "1/1000000", "--auctioneer", "inflate:1", "--seed", "1"]
    made = run(capsys, "simulate", auction, *options, "--out", tmp_path / "s")
    assert made["deviations_made"] >= 4
    run(capsys, "report", tmp_path / "s", "-o", tmp_path / "s.html")
    text = (tmp_path / "s.html").read_text(encoding="utf-8")
    assert "Every rule that could be checked was kept, but no result was." in text
    assert 'class="verdict inconclusive"' in text
    assert "every result is the same" not in text
    first = tmp_path / "first.onnx"
    made_first = build.first_price(bidders=2, bid_max=1000, share_bits=8, unit="1 cent", procurement=False)
    first.write_bytes(made_first.data)
    for number, context in enumerate(("2000", "-5", "1,2", "x", "9" * 30)):
        out = tmp_path / f"c{number}"
        error = run(capsys, "simulate", first, f"--context={context}", "--rounds", "3", "--out", out, status=2)["error"]
        assert "reserve" in error
        assert not out.exists()


def test_an_equivocator_leaves_the_proof_and_a_refuser_its_silence(
    auction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--rounds", "10", "--q", "1/2", "--seed", "2"]
    made = run(capsys, "simulate", auction, *options, "--auctioneer", "equivocate:1", "--out", tmp_path / "split")
    manifest = json.loads((tmp_path / "split" / "public" / "manifest.json").read_bytes())
    assert run_command(["log", "convict", made["equivocation"], "--vkey", manifest["log"]]) == 1
    assert "two histories" in capsys.readouterr().out
    victim = tmp_path / "victim"
    made = run(capsys, "simulate", auction, *options, "--auctioneer", "drop:1:0.5", "--out", victim)
    assert made["bids_dropped"] == 1  # it leaves then
    judged = ["verify", made["receipt"], "--against", str(victim / "public"), "--trust", f"{victim}.trust.json"]
    assert run_command(judged) == 1
    assert "spec 3.6" in capsys.readouterr().out
    silent = tmp_path / "silent"
    made = run(capsys, "simulate", auction, *options, "--auctioneer", "refuse:1", "--out", silent)
    assert made["penalty_executed"] > 0
    capsys.readouterr()
    assert run_command(["verify", str(silent), "--trust", f"{silent}.trust.json"]) == 1
    assert "spec 7.4" in capsys.readouterr().out
    verdict = run(capsys, "report", silent, "-o", tmp_path / "silent.html")["parts"][0]
    assert verdict["headline"] == "Do not trust this session: the auctioneer broke the rules."


def test_help_has_no_pictures_in_place_of_words(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("simulate", "market", "plot", "report"):
        run_command([command, "--help"])
        shown = capsys.readouterr().out
        assert all(ord(character) < 0x2600 for character in shown), command


def test_a_replayed_record_accuses_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = tmp_path / "record"
    replayed = run(capsys, "replay", RECORD, "--limit", "200", "--out", session, "--seed", "1")
    made = run(capsys, "report", session, "-o", tmp_path / "record.html")
    (part,) = made["parts"]
    assert len(replayed["exceptions"]) > 0
    assert "recorded results are not what the announced rule gives" in part["headline"]
    assert "broke the rules" not in (tmp_path / "record.html").read_text(encoding="utf-8")
