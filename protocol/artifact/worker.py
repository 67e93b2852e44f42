"""The child process that parses and runs a foreign artifact under limits (hardening 2.12); see `sandbox`."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec

from protocol.artifact.rounds import RoundInput, RoundOutput
from protocol.errors import MalformedError

if TYPE_CHECKING:
    from protocol.artifact.engine import Engine

MEMORY_BYTES: Final = 2 * 1024**3
CPU_SECONDS: Final = 5  # for each request
JUDGE_SECONDS: Final = 30  # plain Python integers take longer
FRAME: Final = struct.Struct(">I")
MAX_FRAME: Final = 256 * 1024 * 1024
CLONE_NEWNET: Final = 0x40000000


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One job: `load` the file, `run` rounds in the runtime, or `judge` them in pure Python."""

    job: str
    data: bytes = b""
    rounds: list[RoundInput] = []


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What an artifact is, as recomputed by the checks in the child.

    Attributes:
        file_sha256: SHA-256 of the bytes, hex.
        mechanism_digest: Of header and parameters, hex.
        graph_digest: Of the canonical walk, hex.
        header: Canonical text of the header.
        false_claims: What the metadata states and recomputation refutes.
        certified: Whether the class's certificate holds.
        theorem: What it rests on; empty if the class has none.
        problems: Why it does not hold.
        max_bits: Bits of the greatest float64 magnitude of the interval proof.
        elements: Elements of all intermediates of one round.
        size: Bytes of the file.
        nodes: Nodes of the graph.
    """

    file_sha256: str
    mechanism_digest: str
    graph_digest: str
    header: str
    false_claims: list[str]
    certified: bool
    theorem: str
    problems: list[str]
    max_bits: int
    elements: int
    size: int
    nodes: int


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: a summary after `load`, outputs after `run` and `judge`, or why the file is refused."""

    refused: str = ""
    summary: Summary | None = None
    outputs: list[RoundOutput] = []


def read_frame(stream: BinaryIO) -> bytes:
    """Read one length-prefixed frame; empty at the end of the stream."""
    prefix = stream.read(FRAME.size)
    if len(prefix) < FRAME.size:
        return b""
    (length,) = FRAME.unpack(prefix)
    if length > MAX_FRAME:
        raise ValueError(f"frame of {length} bytes, at most {MAX_FRAME}")
    return stream.read(length)


def write_frame(stream: BinaryIO, data: bytes) -> None:
    """Write one length-prefixed frame."""
    stream.write(FRAME.pack(len(data)) + data)
    stream.flush()


def _limit() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.unshare(CLONE_NEWNET)  # no network where that is allowed; the graph has no operator that could use one
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def allow_cpu(seconds: float) -> None:
    """End this process by SIGPROF once it has used so much more processor time; a new allowance replaces the last.

    RLIMIT_CPU cannot do this in a process that serves many requests: the kernel compares it with time counted in ticks,
    which drifts away from what getrusage reports, and so would end an honest child after tens of thousands of rounds.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)


def serve(stdin: BinaryIO, stdout: BinaryIO, allow: Callable[[float], None] = allow_cpu) -> None:
    """Answer requests until the stream ends.

    Args:
        stdin: Frames with requests.
        stdout: Receives a frame with the reply to each.
        allow: Gives each request its processor time, in seconds.
    """
    engine: Engine | None = None
    while frame := read_frame(stdin):
        request = msgspec.msgpack.decode(frame, type=Request)
        allow(JUDGE_SECONDS if request.job == "judge" else CPU_SECONDS)
        try:
            if request.job == "load":
                engine, reply = _load(request.data)
            elif engine is None:
                reply = Reply(refused="no artifact is loaded, or its metadata makes false claims")
            else:
                outputs = engine.run(request.rounds) if request.job == "run" else engine.judge(request.rounds)
                reply = Reply(outputs=outputs)
        except (MalformedError, MemoryError) as error:
            reply = Reply(refused=str(error) or type(error).__name__)
        write_frame(stdout, msgspec.msgpack.encode(reply))


def _load(data: bytes) -> tuple[Engine | None, Reply]:
    from protocol.artifact.certify import certify
    from protocol.artifact.engine import Engine
    from protocol.artifact.static import check

    artifact = check(data)
    certificate = certify(artifact)
    summary = Summary(
        file_sha256=artifact.file_sha256,
        mechanism_digest=artifact.mechanism_digest,
        graph_digest=artifact.graph_digest,
        header=artifact.header.encode(),
        false_claims=list(artifact.false_claims),
        certified=certificate.certified,
        theorem=certificate.theorem or "",
        problems=list(certificate.problems),
        max_bits=artifact.max_bits,
        elements=artifact.elements,
        size=len(artifact.data),
        nodes=len(artifact.model.graph.node),
    )
    return None if artifact.false_claims else Engine(data), Reply(summary=summary)


def main() -> None:
    """Serve requests on standard input until it closes."""
    stdin, stdout = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints does not enter the protocol
    _limit()
    allow_cpu(CPU_SECONDS)
    serve(stdin, stdout)


if __name__ == "__main__":
    main()
