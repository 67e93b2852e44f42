"""Running a foreign artifact in a child process with limits (spec 2.14, hardening 2.12).

Imports neither onnx nor onnxruntime.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from protocol.artifact.header import MAX_BYTES, Header
from protocol.artifact.rounds import RoundInput, RoundOutput, check_input
from protocol.artifact.worker import FRAME, MAX_FRAME, Reply, Request, Summary
from protocol.errors import ArtifactRefusedError, LimitError

WALL_SECONDS: Final = 60.0  # for one request; the child's own limit is on processor time
BATCH: Final = 256  # rounds a request at most; fewer of a large artifact, so that each stays inside the child's limits
BATCH_ELEMENTS: Final = 1 << 22


class Sandbox:
    """An artifact that lives in a limited child process; use it as a context manager.

    Args:
        data: The file's bytes.
        mech: SHA-256 that the bytes must have, hex; unchecked if left out.
        wait: Whether to return only when the child has checked the file; without it, `ready` must come before the
            first run, and the caller does something else meanwhile.

    Raises:
        ArtifactRefusedError: If the bytes have another hash or a check in the child refuses them.
        LimitError: If the file is larger than spec 12 allows.
    """

    summary: Summary
    header: Header

    def __init__(self, data: bytes, mech: str | None = None, *, wait: bool = True) -> None:
        if len(data) > MAX_BYTES:
            raise LimitError("artifact in bytes", len(data), MAX_BYTES)
        digest = hashlib.sha256(data).hexdigest()
        if mech is not None and digest != mech:
            raise ArtifactRefusedError(f"artifact has SHA-256 {digest}, wanted {mech} (spec 2.11)")
        self._closed = False
        self._folder = tempfile.TemporaryDirectory(prefix="credible-child-")
        bootstrap = f"import sys; sys.path[:] = {sys.path!r}; from protocol.artifact.worker import main; main()"
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-c", bootstrap],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env={},
            start_new_session=True,
        )
        self._unread = bytearray()
        self._poll = select.poll()
        try:
            if self._child.stdout is not None:
                self._poll.register(self._child.stdout, select.POLLIN)
            self._send(Request(job="load", data=data))
            if wait:
                self.ready()
        except BaseException:
            self.close()
            raise

    def ready(self) -> None:
        """Wait until the child has checked the file; raise ArtifactRefusedError if it refuses it."""
        if hasattr(self, "header"):
            return
        summary = self._receive().summary
        if summary is None:
            self.close()
            raise ArtifactRefusedError("the child gave no summary of the artifact")
        self.summary = summary
        self.header = Header.decode(summary.header)

    def run(self, rounds: Sequence[RoundInput]) -> list[RoundOutput]:
        """Run rounds in the runtime; outputs passed the checks of spec 3.14."""
        return self._in_batches("run", rounds, max(1, min(BATCH, BATCH_ELEMENTS // max(self.summary.elements, 1))))

    def judge(self, rounds: Sequence[RoundInput]) -> list[RoundOutput]:
        """Evaluate rounds in the pure-Python judge (spec 7.6)."""
        return self._in_batches("judge", rounds, 1)

    def _in_batches(self, job: str, rounds: Sequence[RoundInput], size: int) -> list[RoundOutput]:
        for item in rounds:
            check_input(self.header, item)  # the caller's mistake is not the artifact's failure
        outputs: list[RoundOutput] = []
        for start in range(0, len(rounds), size):
            outputs += self._ask(Request(job=job, rounds=list(rounds[start : start + size]))).outputs
        if len(outputs) != len(rounds):
            raise ArtifactRefusedError(f"the child answered {len(outputs)} of {len(rounds)} rounds")
        return outputs

    def _ask(self, request: Request) -> Reply:
        self._send(request)
        return self._receive()

    def _send(self, request: Request) -> None:
        if self._closed or self._child.stdin is None:
            raise ArtifactRefusedError("artifact failed: the child process has ended")
        data = msgspec.msgpack.encode(request)
        try:
            self._child.stdin.write(FRAME.pack(len(data)) + data)
            self._child.stdin.flush()
        except BrokenPipeError as error:
            raise self._broken() from error

    def _receive(self) -> Reply:
        deadline = time.monotonic() + WALL_SECONDS
        try:
            (length,) = FRAME.unpack(self._read(FRAME.size, deadline))
            if length > MAX_FRAME:
                raise ArtifactRefusedError(f"the child answers {length} bytes, at most {MAX_FRAME}")
            reply = msgspec.msgpack.decode(self._read(length, deadline), type=Reply)
        except (EOFError, msgspec.MsgspecError) as error:
            raise self._broken() from error
        if reply.refused:
            raise ArtifactRefusedError(reply.refused)
        return reply

    def _broken(self) -> ArtifactRefusedError:
        """Close, and say how the child ended: what the kernel killed for time or memory is told from a defect."""
        try:
            code = self._child.wait(timeout=1)
        except subprocess.TimeoutExpired:
            how = "broke its protocol"
        else:
            names = {int(item): item.name for item in signal.Signals}
            how = f"was ended by {names.get(-code, f'signal {-code}')}" if code < 0 else f"exited with status {code}"
        self.close()
        return ArtifactRefusedError(f"artifact failed: the child process {how}")

    def _read(self, size: int, deadline: float) -> bytes:
        if self._child.stdout is None:
            raise EOFError
        descriptor = self._child.stdout.fileno()
        while len(self._unread) < size:
            if not self._poll.poll(1000 * max(deadline - time.monotonic(), 0)):
                self.close()
                raise ArtifactRefusedError(f"artifact failed: no answer within {WALL_SECONDS:.0f} s")
            part = os.read(descriptor, 1 << 20)
            if not part:
                raise EOFError
            self._unread += part
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def close(self) -> None:
        """End the child and remove its folder; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._child.returncode is None:  # else its number may already be another process's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._child.wait()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
