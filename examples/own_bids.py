"""Bring your own bids: a CSV of decimal prices, one row per round and seat, run through an exact artifact."""

import csv
import json
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from credible.cli import run_command

ARTIFACT = Path(__file__).parent / "artifacts" / "boosts_2x5.onnx"
BIDS = """round,seat,item_0,item_1,item_2,item_3,item_4
0,0,0.91,0.20,0.55,0.10,0.83
0,1,0.40,0.75,0.52,0.95,0.12
1,0,0.15,0.22,0.31,0.08,0.05
1,1,0.45,0.91,0.88,0.62,0.70
2,1,0.99,0.99,0.99,0.99,0.99
"""  # seat 0 stays away from round 2

with tempfile.TemporaryDirectory() as name:
    path = Path(name) / "bids.csv"
    path.write_text(BIDS, encoding="utf-8")
    shown = StringIO()
    with redirect_stdout(shown):
        status = run_command(["run", str(ARTIFACT), str(path), "--decimals", "1/1000000", "--json"])
    if status:
        raise SystemExit(status)
    outcome = json.loads(shown.getvalue())
    print(f"{len(list(csv.DictReader(StringIO(BIDS))))} bids read from {path.name}")
    whole, grid = 2**16, 10**6
    for number, shares, paid in zip(outcome["units"]["rounds"], outcome["allocation"], outcome["payment"], strict=True):
        for seat in (0, 1):
            won = [item for item, share in enumerate(shares[seat]) if share == whole]
            print(f"round {number}, seat {seat}: wins items {won}, pays {paid[seat] / whole / grid:.6f}")
