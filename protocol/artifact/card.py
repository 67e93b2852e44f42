"""The model card beside an artifact: what it is, what was proved, what was measured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from protocol.artifact.certify import certify
from protocol.artifact.engine import Engine
from protocol.artifact.static import CheckedArtifact


def card(artifact: CheckedArtifact, *, measured: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """Return the card of an artifact.

    Args:
        artifact: The checked artifact.
        measured: Figures of evaluation and differential check, with the command that gives them.
        seed: Decides the test vectors.
    """
    certificate = certify(artifact)
    header = artifact.header
    source = np.random.default_rng(seed)
    shape = (4, header.bidders, header.items)
    bids = source.integers(0, header.bid_max + 1, size=shape)
    context = np.full((4, len(header.context)), header.bid_max // 2) if header.context else None
    arrays = Engine(artifact.data).run_arrays(bids, context=context)
    digest = hashlib.sha256()
    for array in (bids, arrays["allocation"], arrays["payment"]):
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return {
        "artifact": {
            "file_sha256": artifact.file_sha256,
            "mechanism_digest": artifact.mechanism_digest,
            "graph_digest": artifact.graph_digest,
            "bytes": len(artifact.data),
            **json.loads(header.encode()),
        },
        "proved": {
            "exact_for_all_int64_inputs": True,
            "max_bits": artifact.max_bits,
            "class": certificate.kind,
            "certified": certificate.certified,
            "theorem": certificate.theorem,
            "problems": list(certificate.problems),
        },
        "measured": measured,
        "vectors": {
            "bids": bids.tolist(),
            "allocation": arrays["allocation"].tolist(),
            "payment": arrays["payment"].tolist(),
            "sha256": digest.hexdigest(),
        },
        "tools": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "numpy": np.__version__},
    }


def write_card(path: Path, artifact: CheckedArtifact, *, measured: dict[str, Any]) -> Path:
    """Write the card beside an artifact's file and return its path: FILE.card.json for FILE.onnx."""
    target = path.with_suffix(".card.json")
    target.write_text(json.dumps(card(artifact, measured=measured), indent=1) + "\n", encoding="utf-8")
    return target
