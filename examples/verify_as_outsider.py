"""Verify a session as somebody who was not there: public files and a trust file, nothing else, no torch.

An auctioneer publishes a folder; you pin its key and the session beforehand. You copy the folder to another machine,
verify it, tamper with it, and verify it again.
"""

import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

from credible.simulation.agent_scenario import agent_scenario
from credible.simulation.market import Market, trust_path
from credible.simulation.setup import Rules, Secrets
from protocol.artifact import Sandbox
from protocol.verify import Trust, verify_path

ARTIFACT = (Path(__file__).parent / "artifacts" / "lottery_2x2.onnx").read_bytes()


def show(text: str, folder: Path, trust: Path | None) -> None:
    verdict = verify_path(folder, None if trust is None else Trust.read(trust))
    print(f"{text}: {verdict.verdict}, status {verdict.status}")
    for line in [*(f"spec {f.rule}: {f.text}" for f in verdict.findings[:1]), *verdict.notes[:1]]:
        print("  ", line)


with tempfile.TemporaryDirectory() as name:
    theirs, mine = Path(name) / "theirs", Path(name) / "mine"
    with Sandbox(ARTIFACT) as checked:  # played by the auctioneer and two bidders
        secrets, rules = Secrets.fresh(), Rules("prompt", rounds=10, q=Fraction(1, 2))
        scenario = agent_scenario(checked.header, checked, rules, secrets.agents())
        with Market(theirs, ARTIFACT, rules, scenario, secrets, config=b"example") as market:
            market.run()

    shutil.copytree(theirs / "public", mine)  # what anybody can download
    pinned = trust_path(theirs)  # session id, auctioneer's key, witness policy: obtained beforehand
    show("the published folder", mine, pinned)
    show("without a trust file", mine, None)

    entry = max((mine / "tile" / "entries").rglob("*"), key=lambda file: file.is_file() and file.stat().st_size)
    data = bytearray(entry.read_bytes())
    data[len(data) // 2] ^= 1
    entry.write_bytes(data)
    show("with one bit of the log changed", mine, pinned)
