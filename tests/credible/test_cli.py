"""The command line: contracts for machines, exit statuses, refusals, resume (design section 6, spec 8.6)."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from credible.cli import run_command
from credible.simulation.market import heads_path, trust_path, vault_path
from protocol.artifact.static import CheckedArtifact
from protocol.storage.vault import Vault
from tests.conftest import ROOT


@pytest.fixture(scope="session")
def auction(tmp_path_factory: pytest.TempPathFactory, second_price: CheckedArtifact) -> Path:
    """An artifact on disk."""
    path = tmp_path_factory.mktemp("artifact") / "auction.onnx"
    path.write_bytes(second_price.data)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 0) -> dict[str, Any]:
    """Run a command with --json and return its object."""
    got = run_command([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert got == status, captured.err
    assert "Traceback" not in captured.err
    result = json.loads(captured.out) if captured.out.strip() else {}
    assert isinstance(result, dict)
    return result


def test_inspect_contract(auction: Path, capsys: pytest.CaptureFixture[str], second_price: CheckedArtifact) -> None:
    result = run(capsys, "inspect", auction, "--certify")
    assert result["class"] == "single-item-reserve"
    assert result["certified"] is True
    assert (result["bidders"], result["items"]) == (3, 2)
    assert result["proof"]["max_bits"] == second_price.max_bits
    for key in ("file_sha256", "mechanism_digest", "graph_digest"):
        assert re.fullmatch("[0-9a-f]{64}", result[key])


def test_inspect_statuses(tmp_path: Path, capsys: pytest.CaptureFixture[str], auction: Path) -> None:
    import numpy as np

    from protocol.artifact import build
    from tests.protocol.artifact.test_static import mutated, replace_tensor

    first = tmp_path / "first.onnx"
    first.write_bytes(build.first_price(bidders=2, bid_max=9, share_bits=2, unit="1", procurement=False).data)
    run(capsys, "inspect", first)
    assert run(capsys, "inspect", first, "--certify", status=4)["certified"] is False
    false = tmp_path / "false.onnx"
    false.write_bytes(mutated(lambda m: replace_tensor(m, "boosts", [9, 0, 1], np.float64)))
    assert run(capsys, "inspect", false, "--certify", status=1)["problems"]
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(auction.read_bytes()[:-9])
    run(capsys, "inspect", junk, status=3)
    run(capsys, "inspect", tmp_path / "none.onnx", status=3)


def test_text_of_a_file_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from protocol.artifact import build

    path = tmp_path / "a.onnx"
    path.write_bytes(build.single_item_reserve([1], bidders=2, bid_max=9, share_bits=2, unit="[/x][bold]y").data)
    assert run_command(["inspect", str(path), "--certify"]) == 0
    assert "[/x][bold]y" in capsys.readouterr().out


def test_run_contract(auction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bids = tmp_path / "bids.csv"
    bids.write_text("round,seat,item_0,item_1\n0,0,500,10\n0,2,300,20\n5,1,50,0\n", encoding="utf-8")
    result = run(capsys, "run", auction, bids)
    assert result["allocation"][0] == [[256, 0], [0, 0], [0, 256]]
    assert result["payment"] == [[300 * 256, 0, 10 * 256], [0, 0, 0]]
    assert result["units"]["rounds"] == [0, 5]
    bids.write_text("round,seat,item_0,item_1\n0,0,5.00,0.1\n0,2,3,0.2\n", encoding="utf-8")
    assert run(capsys, "run", auction, bids, "--decimals", "1/100")["payment"][0] == [300 * 256, 0, 10 * 256]
    run(capsys, "run", auction, bids, status=3)  # decimals without the option
    head = "round,seat,item_0,item_1\n"
    for text in ("round,seat,item_0\n0,0,1\n", head + "0,3,1,1\n", head + "0,0,1001,1\n", head + "0,0,1,1\n0,0,1,1\n"):
        bids.write_text(text, encoding="utf-8")
        run(capsys, "run", auction, bids, status=3)
    run(capsys, "run", auction, bids, "--decimals", "0", status=2)


def test_simulate_and_verify_contract(auction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s"
    result = run(capsys, "simulate", auction, "--out", out, "--rounds", "6", "--q", "1/2", "--seed", "1")
    assert {
        "session",
        "rounds",
        "audited",
        "deviations_made",
        "deviations_found",
        "penalty",
        "rounds_per_second",
    } <= set(result)
    assert result["rounds"] == 6
    assert "halted_at" not in result
    verdict = run(capsys, "verify", out, "--trust", trust_path(out))
    assert verdict["verdict"] == "holds"
    assert verdict["trusted"] is True
    assert verdict["findings"] == []
    assert verdict["checked"]["outcome statements"] == 6
    assert run(capsys, "verify", out, status=4)["verdict"] == "inconclusive"
    run(capsys, "simulate", auction, "--out", out, "--rounds", "6", status=2)  # exists
    run(capsys, "simulate", auction, "--out", out, "--rounds", "7", "--q", "1/2", "--seed", "1", "--resume", status=2)
    run(capsys, "simulate", auction, "--out", tmp_path / "none", "--resume", status=2)
    again = run(capsys, "simulate", auction, "--out", out, "--rounds", "6", "--q", "1/2", "--seed", "1", "--resume")
    assert again["rounds"] == 6
    assert (tmp_path / "s" / "private" / "vault.db").stat().st_mode & 0o077 == 0


def test_a_cheating_simulation(auction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c"
    result = run(capsys, "simulate", auction, "--out", out, "--rounds", "10", "--q", "1/1", "--epoch", "5",
                 "--auctioneer", "inflate:1.0", "--seed", "1")  # fmt: skip
    assert result["deviations_found"] > 0
    assert result["halted_at"] == 4
    assert result["rounds"] == 5
    assert result["penalty_executed"] == result["penalty"] > 0
    verdict = run(capsys, "verify", out, "--trust", trust_path(out), status=1)
    assert verdict["verdict"] == "deviation"
    assert verdict["findings"][0]["rule"] == "7.5"
    bundles = run(capsys, "audit", out, status=1)["bundles"]
    assert [b["epoch"] for b in bundles] == [0]
    bundle = run(capsys, "verify", bundles[0]["bundle"], "--trust", trust_path(out), status=1)
    assert bundle["findings"] == verdict["findings"]
    run(capsys, "audit", out, status=2)  # the evidence folder exists


@pytest.mark.parametrize(
    "options",
    [
        ["--q", "2"], ["--q", "x"], ["--q", "1/0"], ["--preset", "none"], ["--auctioneer", "evil"],
        ["--bidders", "shade:0"], ["--auctioneer", "inflate:2"], ["--rounds", "0"],
        ["--setting", "additive_2x2_uniform"], ["--participation", "1.5"],
        ["--preset", "published", "--k", "7", "--rounds", "6"],
    ],
)  # fmt: skip
def test_wrong_usage_writes_nothing(
    options: list[str], auction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "simulate", auction, "--out", tmp_path / "s", *options, status=2)
    assert not (tmp_path / "s").exists()
    assert not trust_path(tmp_path / "s").exists()


def test_penalty_contract(auction: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "penalty", auction)
    assert result["preset"] == "prompt"
    assert result["gain_bound"] == 2 * 1000 * 256
    assert result["required_penalty"] == result["required_deposit"] == 15 * result["gain_bound"] + 1
    assert result["detection"]["10"] == pytest.approx(1 - 0.9**10)
    published = run(capsys, "penalty", "--gain", "7", "--preset", "published", "--rounds", "20")
    assert published["required_penalty"] == 141
    assert published["detection"]["2"] == pytest.approx(0.1)
    run(capsys, "penalty", status=2)
    run(capsys, "penalty", auction, "--gain", "1", status=2)
    run(capsys, "penalty", "--gain", "1", "--preset", "x", status=2)


def test_train_evaluate_export_certify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, model = tmp_path / "run", tmp_path / "m.onnx"
    trained = run(capsys, "train", "additive_2x2_uniform", "--out", folder, "--iterations", "150", "--seed", "2")
    assert trained["iterations"] == 150
    assert trained["validation_revenue"] > 0.84
    run(capsys, "train", "additive_2x2_uniform", "--out", folder, status=2)
    assert (
        run_command(
            ["train", "additive_2x2_uniform", "--out", str(folder), "--resume", "--iterations", "9", "--seed", "2"]
        )
        == 2
    )
    assert "iterations 150, not 9" in capsys.readouterr().err
    run(capsys, "train", "additive_2x2_uniform", "--out", tmp_path / "none", "--resume", status=2)
    assert not (tmp_path / "none").exists()
    run(capsys, "train", "additive_2x2_uniform", "--out", folder, "--iterations", "150", "--seed", "2", "--resume")
    rated = run(capsys, "evaluate", folder, "--samples", "70000")
    contract = {"revenue", "revenue_se", "regret", "regret_kind", "ir_violation", "overallocation", "samples"}
    assert contract <= set(rated)
    assert rated["regret_kind"] == "exact_zero"
    assert rated["samples"] == 70000
    last = max(folder.glob("checkpoint-*"))
    kept = last.rename(tmp_path / last.name)
    assert run_command(["evaluate", str(folder), "--samples", "100"]) == 0
    assert "weights of step 100 of 150" in capsys.readouterr().err
    kept.rename(last)
    assert run_command(["evaluate", str(folder), "--samples", "100"]) == 0
    assert "weights of step" not in capsys.readouterr().err
    exported = run(capsys, "export", folder, "-o", model)
    card = json.loads(Path(exported["card"]).read_text(encoding="utf-8"))
    assert card["artifact"]["file_sha256"] == exported["file_sha256"]
    assert card["proved"]["certified"] is True
    assert run(capsys, "inspect", model, "--certify")["class"] == "menu-affine"
    exact = run(capsys, "evaluate", model, "--setting", "additive_2x2_uniform", "--samples", "70000")
    assert exact["revenue"] == pytest.approx(rated["revenue"], abs=1e-4)  # on the same profiles
    assert exact["baselines"] == rated["baselines"]
    assert exact["ir_violation"] == 0
    assert exact["regret_found"] == 0
    run(capsys, "evaluate", model, status=2)
    run(capsys, "evaluate", folder, "--setting", "additive_2x2_uniform", status=2)
    run(capsys, "evaluate", tmp_path / "none", status=3)
    run(capsys, "evaluate", tmp_path / "none", "--setting", "additive_2x2_uniform", status=3)
    run(capsys, "export", folder, "-o", model, status=2)
    run(capsys, "export", tmp_path / "none", "-o", tmp_path / "n.onnx", status=3)
    (folder / "weights.safetensors").write_bytes(b"junk")
    run(capsys, "evaluate", folder, status=3)


def test_settings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "tsuchiura_4x2" in run(capsys, "settings")["settings"]
    assert run(capsys, "settings", "additive_3x10_uniform")["items"] == 10
    run(capsys, "settings", "nothing", status=3)
    bad = tmp_path / "bad.toml"
    for text in (
        "",
        "x = ",
        "name = 1",
        (ROOT / "credible/settings/additive_2x2_uniform.toml").read_text() + "\nmore = 1\n",
    ):
        bad.write_text(text, encoding="utf-8")
        run(capsys, "settings", bad, status=3)


def test_classic_auctions_are_exported_without_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, kind in (
        ("vcg", "single-item-reserve"),
        ("myerson-uniform", "single-item-reserve"),
        ("procurement", "first-price"),
    ):
        path = tmp_path / f"{name}.onnx"
        run(capsys, "export", name, "-o", path, "--bidders", "2", "--bid-max", "99")
        assert run(capsys, "inspect", path)["class"] == kind
    run(capsys, "export", "procurement", "-o", tmp_path / "x.onnx", "--items", "2", status=2)


def test_log_commands(honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "log", "fsck", honest)
    assert found["entries"] == found["size"] > 50
    proof = tmp_path / "p.tlog-proof"
    written = run(capsys, "log", "prove", honest, "--entry", "7", "-o", proof)
    manifest = json.loads((honest / "public" / "manifest.json").read_text(encoding="utf-8"))
    assert run(capsys, "log", "check", proof, written["entry"], "--vkey", manifest["log"])["index"] == 7
    run(capsys, "log", "check", proof, honest / "public" / "policy.txt", "--vkey", manifest["log"], status=1)
    run(capsys, "log", "check", proof, written["entry"], "--vkey", manifest["auctioneer"], status=1)
    run(capsys, "log", "check", proof, written["entry"], "--vkey", "junk", status=2)
    run(capsys, "log", "prove", honest, "--entry", "99999", "-o", tmp_path / "q", status=2)
    assert run(capsys, "log", "show-entry", honest, "--entry", "0")["name"] == "manifest"


def test_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.prompt", lambda *_, **__: "secret words")
    path = tmp_path / "me.pem"
    made = run(capsys, "keys", path, "--name", "example.com/bidder", "--new")
    assert run(capsys, "keys", path, "--name", "example.com/bidder") == made
    run(capsys, "keys", path, "--name", "x", "--new", status=2)
    run(capsys, "keys", tmp_path / "none", "--name", "x", status=3)
    assert made["vkey"].startswith("example.com/bidder+")
    assert path.stat().st_mode & 0o077 == 0


def test_report_is_one_file_that_needs_no_network(
    honest: Path, cheating: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "r.html"
    run(capsys, "report", honest, cheating, "-o", page)
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") >= 6
    assert "holds" in text
    assert "deviation" in text
    assert "spec 7.5" in text
    assert not re.search(r"""(src|href)=["'](https?:)?//""", text)
    assert "<script" not in text
    run(capsys, "report", tmp_path / "none", "-o", page, status=3)


def test_unforeseen_errors_are_no_verdict(
    monkeypatch: pytest.MonkeyPatch, honest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("credible.cli.verify.verify_path", broken)
    assert run_command(["verify", str(honest)]) == 70
    assert "no verdict" in capsys.readouterr().err


def test_help_names_every_command_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["--help"])
    listed = set(re.findall(r"^\W*│ ([a-z]+) ", capsys.readouterr().out, re.MULTILINE))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = set(re.findall(r"^\| `([a-z]+)[ `]", readme, re.MULTILINE))
    assert listed == table


@pytest.mark.parametrize("wait", [0.9, 1.6])
def test_a_killed_simulation_resumes_to_the_same_bytes(auction: Path, tmp_path: Path, wait: float) -> None:  # fault 13
    options = ["simulate", str(auction), "--rounds", "60", "--q", "1/2", "--seed", "9", "--json"]
    command = [sys.executable, "-m", "credible", *options]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run([*command, "--out", str(whole)], check=True, capture_output=True)
    process = subprocess.Popen(
        [*command, "--out", str(cut)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run([*command, "--out", str(cut), "--resume"], check=False, capture_output=True, text=True)
    if not cut.exists():  # killed before the folder was made
        assert done.returncode == 2
        return
    assert done.returncode == 0, done.stderr
    same_public_files(whole, cut)


@pytest.mark.parametrize("stage", ["folder", "vault"])
def test_a_session_killed_before_its_first_entry_starts_anew(auction: Path, tmp_path: Path, stage: str) -> None:
    options = ["simulate", str(auction), "--rounds", "3", "--q", "1/2", "--seed", "9", "--json"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_command([*options, "--out", str(whole)]) == 0
    vault_path(cut).parent.mkdir(parents=True)
    if stage == "vault":
        with Vault(vault_path(whole)) as vault:
            begun = [(kind, name, data) for kind in ("config", "secret") for name, data in vault.records(kind).items()]
        Vault.create(vault_path(cut), begun).close()
    assert run_command([*options, "--out", str(cut), "--resume"]) == 0
    same_public_files(whole, cut)


@pytest.mark.parametrize("damage", ["missing", "empty", "no secret"])
def test_a_published_session_without_its_secrets_is_not_started_again(
    auction: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["simulate", str(auction), "--rounds", "3", "--seed", "9", "--json"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_command([*options, "--out", str(whole)]) == 0
    assert run_command([*options, "--out", str(cut)]) == 0
    vault_path(cut).unlink()
    if damage == "empty":
        vault_path(cut).touch()
    if damage == "no secret":
        Vault.create(vault_path(cut), []).close()
    assert run_command([*options, "--out", str(cut), "--resume"]) == 3
    assert str(vault_path(cut)) in capsys.readouterr().err
    same_public_files(whole, cut)  # nothing was overwritten


def test_every_choice_of_the_manifest_can_be_made_on_the_command_line(
    auction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, trust = tmp_path / "s", tmp_path / "s.trust.json"
    options = "--rounds 4 --q 1/1 --disclosure auditor --auditors 2 --witnesses 4 --faulty-witnesses 1 --mailboxes 3"
    more = "--faulty-mailboxes 1 --gains returned --escalation 1 --aborting 1 --seed 4"
    summary = run(capsys, "simulate", auction, "--out", out, *options.split(), *more.split())
    assert summary["audited"] == 4
    sealed = run(capsys, "verify", out, "--trust", trust, status=4)
    assert "sealed to the auditors" in sealed["notes"][0]
    key = out / "private" / "auditor-1.key"
    opened = run(capsys, "verify", out, "--trust", trust, "--auditor-key", key)
    assert (opened["verdict"], opened["checked"]["rounds re-executed"]) == ("holds", 4)
    assert "mailboxes: 3, of which 1 may fail" in opened["labels"]
    key.write_text("12\n")
    run(capsys, "verify", out, "--trust", trust, "--auditor-key", key, status=3)
    run(capsys, "verify", out, "--trust", trust, "--beacon", "x:12", status=2)
    for bad in (["--profile", "P7"], ["--disclosure", "auditor"], ["--witnesses", "2", "--faulty-witnesses", "1"]):
        run(capsys, "simulate", auction, "--out", tmp_path / "bad", "--rounds", "4", *bad, status=2)
        assert not (tmp_path / "bad").exists()


def test_a_bundle_in_one_file_is_judged_like_the_folder(
    auction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, trust = tmp_path / "s", tmp_path / "s.trust.json"
    options = ["--rounds", "4", "--q", "1/1", "--epoch", "4", "--seed", "4", "--auctioneer", "inflate:1.0"]
    run(capsys, "simulate", auction, "--out", out, *options)
    run(capsys, "audit", out, "--out", tmp_path / "folders", status=1)
    run(capsys, "audit", out, "--out", tmp_path / "files", "--zip", status=1)
    (archive,) = (tmp_path / "files").iterdir()
    assert archive.name == "epoch-0.zip"
    whole = run(capsys, "verify", tmp_path / "folders" / "epoch-0", "--trust", trust, status=1)
    assert run(capsys, "verify", archive, "--trust", trust, status=1) == whole
    data = archive.read_bytes()
    archive.write_bytes(data[:-1])
    run(capsys, "verify", archive, "--trust", trust, status=3)


def test_a_session_that_was_rolled_back_does_not_go_on(  # spec 4.15
    auction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["simulate", str(auction), "--rounds", "3", "--q", "1/2", "--seed", "9", "--json"]
    late, early = tmp_path / "late", tmp_path / "early"
    assert run_command([*options, "--out", str(late)]) == 0
    begun = [("config", "run", b""), ("secret", "root", b"")]
    with Vault(vault_path(late)) as vault:
        begun = [(kind, name, data) for kind, name, _ in begun if (data := vault.record(kind, name)) is not None]
        first = vault.entries()[:6]
    vault_path(early).parent.mkdir(parents=True)
    with Vault.create(vault_path(early), begun) as vault:  # what a backup from early in the session holds
        vault.commit(0, first, [])
    shutil.copy(heads_path(late), heads_path(early))
    assert run_command([*options, "--out", str(early), "--resume"]) == 1
    assert "restored from a backup" in capsys.readouterr().err
    heads_path(late).unlink()
    assert run_command([*options, "--out", str(late), "--resume"]) == 1
    assert f"{heads_path(late)} is missing" in capsys.readouterr().err


def same_public_files(whole: Path, cut: Path) -> None:
    """Assert that two sessions published the same bytes."""
    names = [p.relative_to(whole) for p in sorted((whole / "public").rglob("*")) if p.is_file()]
    assert [p.relative_to(cut) for p in sorted((cut / "public").rglob("*")) if p.is_file()] == names
    for name in names:
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_demo_in_small(tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "demo"), "--rounds", "20", "--auctions", "40", "--iterations", "60", "--json"]
    command = [sys.executable, "-m", "credible", "demo", *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    assert result["certified"] is True
    assert result["verdicts"]["honest-prompt"] == "holds"
    assert Path(result["report"]).is_file()


def test_the_command_line_starts_light() -> None:
    """A verifier reaches the log before anything heavy is loaded (`make bench` measures it against importing torch)."""
    heavy = ("numpy", "onnx", "onnxruntime", "torch", "matplotlib")
    code = f"import sys, credible.cli; credible.cli.build_app([]); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
