"""Judges a session in this process and prints what it ran on; started by test_reaudit under another machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnxruntime
from numpy._core._multiarray_umath import __cpu_features__  # type: ignore[import-not-found]

from protocol.artifact.engine import Engine
from protocol.evidence import Judge
from protocol.verify import Trust, load_public


def main(folder: Path, trust: Path) -> None:
    """Read, apply, re-execute; print one JSON object."""
    loaded = load_public(folder / "public", Trust.read(trust))
    session = loaded.session
    session.add_cosigned({note.cosigned for note in loaded.checkpoints})
    for index, entry in loaded.entries[1:]:
        session.apply(index, entry)
    shown = Judge(session, Engine(loaded.artifact)).conclude()
    result = {
        "onnxruntime": onnxruntime.__version__,
        "avx2": bool(__cpu_features__.get("AVX2")),
        "rounds": shown.counts["rounds re-executed"],
        "findings": [finding.text for finding in shown.findings],
        "waiting": shown.waiting,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
