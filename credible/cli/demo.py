"""credible demo: the main job end to end, as the commands a user would type."""

from __future__ import annotations

import json as json_module
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from credible.cli.common import Json, UsageError, err, out
from credible.records.replay import EXPLAINED
from credible.records.tsuchiura import CAVEAT
from credible.records.values import find_record
from credible.simulation.market import trust_path

RECORD = "examples/data/tsuchiura-procurement"
SETTING = "tsuchiura_4x2"
RATE = 0.1
Q = "1/10"


@dataclass(slots=True)
class Stages:
    """Runs commands in processes of their own and keeps what they printed and how long they took."""

    quiet: bool
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, stage: str, *arguments: str, expect: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """Run `credible ARGUMENTS --json` and time it under a stage's name, if it has one.

        Raises:
            RuntimeError: If the exit status is not one of those expected.
        """
        if not self.quiet:
            err.print(f"$ credible {' '.join(arguments)}", markup=False)
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "credible", *arguments, "--json"], capture_output=True, text=True, check=False
        )
        if stage:
            self.seconds[stage] = time.perf_counter() - started
        if done.returncode not in expect:
            raise RuntimeError(
                f"credible {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-400:]}"
            )
        result = json_module.loads(done.stdout)
        result["exit"] = done.returncode
        return dict(result)

    def together(
        self, stage: str, jobs: dict[str, list[str]], expect: tuple[int, ...] = (0,)
    ) -> dict[str, dict[str, Any]]:
        """Run independent commands two at a time; the stage's time is that of all of them."""
        started = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            futures = {name: pool.submit(self.run, "", *arguments, expect=expect) for name, arguments in jobs.items()}
            results = {name: future.result() for name, future in futures.items()}
        self.seconds[stage] = time.perf_counter() - started
        return results


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder to write; made new.")] = Path("out/demo"),
    rounds: Annotated[int, typer.Option(help="Rounds of each simulated session.", min=10)] = 300,
    auctions: Annotated[int | None, typer.Option(help="Replay only the first auctions of the record.", min=1)] = None,
    iterations: Annotated[int | None, typer.Option(help="Training steps, in place of the setting's.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Makes the demo reproducible.", min=0)] = 1,
    json: Json = False,
) -> None:
    """Replay real auctions, train and certify a mechanism, catch a cheating auctioneer, verify, report."""
    record = find_record(RECORD)
    if folder.exists():
        if not (folder / ".demo").exists():
            raise UsageError(f"{folder} exists and was not written by demo; choose another --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / ".demo").touch()
    started = time.perf_counter()
    stages = Stages(quiet=json)
    limit = [] if auctions is None else ["--limit", str(auctions)]
    steps = [] if iterations is None else ["--iterations", str(iterations)]
    common = ["--seed", str(seed)]

    replayed = stages.run("replay", "replay", str(record), "--out", str(folder / "record"), *limit, *common)
    sessions = {"record": replayed}

    model, run_folder = folder / "auction.onnx", folder / "run"
    stages.run("train", "train", SETTING, "--out", str(run_folder), *steps, *common)
    rated = stages.run("evaluate", "evaluate", str(run_folder), "--samples", "100000")
    stages.run("export", "export", str(run_folder), "-o", str(model))
    certified = stages.run("certify", "inspect", str(model), "--certify")
    (folder / "evaluation.json").write_text(json_module.dumps({**rated, "caveat": CAVEAT}), encoding="utf-8")

    jobs = {}
    for preset in ("prompt", "published"):
        for agent in ("honest", f"inflate:{RATE}"):
            name = f"{agent.partition(':')[0]}-{preset}"
            options = [
                "--setting",
                SETTING,
                "--rounds",
                str(rounds),
                "--preset",
                preset,
                "--auctioneer",
                agent,
                "--q",
                Q,
            ]
            jobs[name] = ["simulate", str(model), "--out", str(folder / name), *options, *common]
    sessions |= stages.together("simulate", jobs)

    audits = {name: ["audit", str(folder / name), "--epoch", "0"] for name in jobs}
    stages.together("audit", audits, expect=(0, 1))
    checks = {}
    for name in sessions:
        outsider = folder / "outsider" / name  # what an outsider holds: the public files and a trust file, nothing else
        shutil.copytree(folder / name / "public", outsider)
        pinned = shutil.copy(trust_path(folder / name), folder / "outsider" / f"{name}.trust.json")
        checks[name] = ["verify", str(outsider), "--trust", str(pinned)]
    verdicts = stages.together("verify", checks, expect=(0, 1))
    page = folder / "report.html"
    paths = [str(folder / name) for name in sessions]
    stages.run("report", "report", *paths, "-o", str(page), "--evaluation", str(folder / "evaluation.json"))

    planned = sessions["inflate-published"]["deviations_made"]
    chance = {"published": planned / rounds, "prompt": 1 - 0.9**planned}
    result = {
        "report": str(page),
        "replay": {key: replayed[key] for key in ("rounds", "explained", "classes")}
        | {"exceptions": len(replayed["exceptions"])},
        "evaluation": {key: rated[key] for key in ("revenue", "revenue_se", "regret", "regret_kind", "baselines")},
        "certified": certified["certified"],
        "verdicts": {name: verdict["verdict"] for name, verdict in verdicts.items()},
        "chance_to_catch": chance,
        "seconds": {stage: round(taken, 1) for stage, taken in stages.seconds.items()},
        "total_seconds": round(time.perf_counter() - started, 1),
    }
    if json:
        print(json_module.dumps(result))  # noqa: T201 - machine output
        return
    out.print(_summary(replayed, rated, certified, sessions, verdicts, chance, rounds))
    out.print(CAVEAT, markup=False)
    out.print(
        "A cheating session that passes was not drawn: with k = 1 most are not, and the penalty is what deters.",
        markup=False,
    )
    times = ", ".join(f"{stage} {taken:.1f} s" for stage, taken in stages.seconds.items())
    out.print(f"wall clock: {times}; total {result['total_seconds']} s", markup=False)
    out.print(f"report: {page}", markup=False)


def _summary(
    replayed: dict[str, Any],
    rated: dict[str, Any],
    certified: dict[str, Any],
    sessions: dict[str, dict[str, Any]],
    verdicts: dict[str, dict[str, Any]],
    chance: dict[str, float],
    rounds: int,
) -> Table:
    table = Table("what", "result", title="From real bids to a verified verdict")
    explained = {name: count for name, count in replayed["classes"].items() if name in EXPLAINED}
    others = {name: count for name, count in replayed["classes"].items() if name not in EXPLAINED}
    table.add_row("real auctions replayed", f"{replayed['rounds']:,}")
    table.add_row("  explained by the announced rule", f"{replayed['explained']:,}: {_counts(explained)}")
    table.add_row("  exceptions", f"{len(replayed['exceptions'])}: {_counts(others)}")
    table.add_row("  an outsider's verdict", _verdict(verdicts["record"]))
    table.add_section()
    baselines = rated["baselines"]
    table.add_row("trained lottery AMA, held-out revenue", f"{rated['revenue']:.5f} +- {rated['revenue_se']:.5f}")
    for name in ("item_wise_myerson", "vcg"):
        row = baselines[name]
        table.add_row(f"  {name.replace('_', '-')}", f"{row['revenue']:.5f} +- {row['revenue_se']:.5f}")
    proof = f"float64 magnitudes below 2^{certified['proof']['max_bits']}"
    table.add_row(
        "  exact artifact", f"{'certified truthful and IR' if certified['certified'] else 'NOT CERTIFIED'}; {proof}"
    )
    table.add_section()
    for name, session in sessions.items():
        if name == "record":
            continue
        agent, _, preset = name.partition("-")
        text = _verdict(verdicts[name])
        if agent == "inflate":
            made = session["deviations_made"]
            text += f"; {made} of {session['rounds']} rounds inflated, expected chance to catch {chance[preset]:.2f}"
            if "halted_at" in session:
                text += f"; halted after round {session['halted_at']}, penalty executed"
        table.add_row(f"{agent} auctioneer, {rounds} rounds, {preset}", text)
    return table


def _verdict(verdict: dict[str, Any]) -> str:
    found = len(verdict["findings"])
    return f"{verdict['verdict']} (exit {verdict['exit']})" + (f", {found} findings" if found else "")


def _counts(classes: dict[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sorted(classes.items())) or "none"
