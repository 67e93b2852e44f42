"""Executing a checked artifact in this process; foreign files go through `sandbox` (spec 2.14)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from protocol.artifact import judge, selftest, static
from protocol.artifact.graph import ALLOCATION, BIDS, CHOICE, CONTEXT, PARTICIPATION, PAYMENT
from protocol.artifact.rounds import RoundInput, RoundOutput, check_input, check_output
from protocol.errors import ArtifactRefusedError

CHUNK: Final = 64  # rounds a run: larger batches leave the cache for large menus (benchmarks/)

Arrays = dict[str, npt.NDArray[np.int64]]


class Engine:
    """One artifact, checked and loaded.

    Args:
        data: The file's bytes.

    Raises:
        ArtifactRefusedError: If a static check, a claim in the metadata or the runtime's self-test fails.
    """

    def __init__(self, data: bytes) -> None:
        self.artifact = static.check(data)
        if self.artifact.false_claims:
            raise ArtifactRefusedError("; ".join(self.artifact.false_claims))
        selftest.run()
        self._session = onnxruntime.InferenceSession(
            data, selftest.session_options(), providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in self.artifact.model.graph.output]

    def run_arrays(
        self,
        bids: npt.NDArray[np.int64],
        participation: npt.NDArray[np.int64] | None = None,
        context: npt.NDArray[np.int64] | None = None,
    ) -> Arrays:
        """Run many rounds.

        Args:
            bids: Grid units, shape (batch, bidders, items); clamped to the artifact's range by the graph.
            participation: 0 or 1, shape (batch, bidders); everybody takes part if left out.
            context: Public integers, shape (batch, context); needed if the artifact declares any.

        Returns:
            `allocation` (batch, bidders, items) in 2^-share_bits of an item, `payment` (batch, bidders) in fine units
            and, with a menu, `choice` (batch,).

        Raises:
            ValueError: If a shape is not the artifact's.
        """
        header = self.artifact.header
        batch = len(bids)
        feeds: Arrays = {BIDS: np.ascontiguousarray(bids, dtype=np.int64)}
        if participation is None:
            participation = np.ones((batch, header.bidders), dtype=np.int64)
        feeds[PARTICIPATION] = np.ascontiguousarray(participation, dtype=np.int64)
        if header.context:
            if context is None:
                raise ValueError(f"the artifact wants context {header.context}, got none")
            feeds[CONTEXT] = np.ascontiguousarray(context, dtype=np.int64)
        elif context is not None and context.size:
            raise ValueError("the artifact takes no context")
        wanted = {
            BIDS: (batch, header.bidders, header.items),
            PARTICIPATION: (batch, header.bidders),
            CONTEXT: (batch, len(header.context)),
        }
        for name, array in feeds.items():
            if array.shape != wanted[name]:
                raise ValueError(f"{name} has shape {array.shape}, wanted {wanted[name]}")
        parts: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in self._outputs}
        for start in range(0, batch, CHUNK):
            chunk = {name: array[start : start + CHUNK] for name, array in feeds.items()}
            for name, array in zip(self._outputs, self._session.run(self._outputs, chunk), strict=True):
                parts[name].append(array)
        return {name: np.concatenate(arrays) if arrays else self._empty(name) for name, arrays in parts.items()}

    def _empty(self, name: str) -> npt.NDArray[np.int64]:
        header = self.artifact.header
        shapes = {ALLOCATION: (0, header.bidders, header.items), PAYMENT: (0, header.bidders), CHOICE: (0,)}
        return np.zeros(shapes[name], dtype=np.int64)

    def run(self, rounds: Sequence[RoundInput]) -> list[RoundOutput]:
        """Run rounds given as plain integers; outputs are checked (spec 3.14)."""
        header = self.artifact.header
        for item in rounds:
            check_input(header, item)
        if not rounds:
            return []
        context = np.array([item.context for item in rounds], dtype=np.int64) if header.context else None
        arrays = self.run_arrays(
            np.array([item.bids for item in rounds], dtype=np.int64),
            np.array([item.participation for item in rounds], dtype=np.int64),
            context,
        )
        outputs = [
            RoundOutput(allocation=allocation, payment=payment)
            for allocation, payment in zip(arrays[ALLOCATION].tolist(), arrays[PAYMENT].tolist(), strict=True)
        ]
        for item, output in zip(rounds, outputs, strict=True):
            check_output(header, item, output)
        return outputs

    def judge(self, rounds: Sequence[RoundInput]) -> list[RoundOutput]:
        """Evaluate rounds with the pure-Python judge instead of the runtime (spec 7.6)."""
        header = self.artifact.header
        if not rounds:
            return []
        inputs: dict[str, list[Any]] = {
            BIDS: [item.bids for item in rounds],
            PARTICIPATION: [item.participation for item in rounds],
        }
        if header.context:
            inputs[CONTEXT] = [item.context for item in rounds]
        result = judge.evaluate(self.artifact.model, inputs)
        return [
            RoundOutput(allocation=allocation, payment=payment)
            for allocation, payment in zip(result[ALLOCATION], result[PAYMENT], strict=True)
        ]
