"""Play a session with an auctioneer that overcharges, audit it, judge it as an outsider, write the report.

Everything is a command that you could type; the status of each is what a script would branch on.
"""

import sys
import tempfile
from pathlib import Path

from credible.cli import run_command

HERE = Path(__file__).parent


def credible(*arguments: object, status: int = 0) -> None:
    print("$ credible", *arguments)
    if run_command([*map(str, arguments)]) != status:
        sys.exit(f"wanted status {status}")


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    artifact, session = HERE / "artifacts" / "lottery_2x2.onnx", folder / "session"
    credible("inspect", artifact, "--certify")
    credible(
        "simulate", artifact, "--rounds", 40, "--q", "1/2", "--auctioneer", "phantom:0.5", "--seed", 5, "--out", session
    )
    credible("audit", session, status=1)  # 1: a deviation is proved; SESSION.evidence holds one bundle an epoch
    credible("verify", session, "--trust", f"{session}.trust.json", status=1)
    credible("report", session, "-o", folder / "report.html")
    credible("penalty", artifact, "--rounds", 40, "--q", "1/2")
    credible(
        "market",
        artifact,
        "--rounds",
        20_000,
        "--session",
        40,
        "--q",
        "1/2",
        "--auctioneer",
        "phantom:0.5",
        "--seed",
        5,
    )
