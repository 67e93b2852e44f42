"""The child's loop in this process, and what inputs and outputs of rounds must be (spec 2.14, 3.14; hardening 2.12)."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from typing import Any

import msgspec
import onnx
import pytest

from protocol.artifact import RoundInput, RoundOutput, build
from protocol.artifact.rounds import check_input, check_output
from protocol.artifact.static import CheckedArtifact
from protocol.artifact.worker import FRAME, MAX_FRAME, Reply, Request, read_frame, serve, write_frame
from protocol.errors import ArtifactRefusedError

ROUND = RoundInput(bids=[[7, 1], [5, 3]], participation=[1, 1], context=[])


@pytest.fixture(scope="module")
def artifact() -> CheckedArtifact:
    return build.single_item_reserve([2, 2], bidders=2, bid_max=10, share_bits=4, unit="1")


def ask(*requests: Request) -> tuple[list[Reply], list[float]]:
    """Send requests to the loop; return the replies and the processor time that each was given."""
    stdin, stdout = io.BytesIO(), io.BytesIO()
    seconds: list[float] = []
    for request in requests:
        write_frame(stdin, msgspec.msgpack.encode(request))
    stdin.seek(0)
    serve(stdin, stdout, seconds.append)
    stdout.seek(0)
    replies = []
    while frame := read_frame(stdout):
        replies.append(msgspec.msgpack.decode(frame, type=Reply))
    return replies, seconds


def test_the_loop_loads_runs_and_judges(artifact: CheckedArtifact) -> None:
    load, run, judge = Request(job="load", data=artifact.data), Request(job="run", rounds=[ROUND]), "judge"
    (loaded, ran, judged), seconds = ask(load, run, Request(job=judge, rounds=[ROUND]))
    assert loaded.summary is not None
    assert loaded.summary.file_sha256 == artifact.file_sha256
    assert loaded.summary.certified
    assert ran.outputs == judged.outputs == [RoundOutput(allocation=[[16, 0], [0, 16]], payment=[5 * 16, 2 * 16])]
    assert seconds[2] > seconds[1] == seconds[0]  # the judge is slower and gets more time


def burn(allowance: float, bursts: int, each: float) -> int:
    """Status of a process that gives itself an allowance before each burst of work."""
    text = f"""
import time
from protocol.artifact.worker import allow_cpu
for _ in range({bursts}):
    allow_cpu({allowance})
    end = time.process_time() + {each}
    while time.process_time() < end:
        pass
"""
    return subprocess.run([sys.executable, "-c", text], check=False).returncode


def test_each_request_has_its_own_processor_time() -> None:  # hardening 2.12
    assert burn(0.6, 1, 10.0) == -signal.SIGPROF
    assert burn(0.6, 8, 0.2) == 0  # what earlier requests used is not counted against later ones


def test_nothing_runs_before_a_file_is_loaded_or_after_a_refused_one(artifact: CheckedArtifact) -> None:
    replies, _ = ask(Request(job="run", rounds=[ROUND]), Request(job="load", data=b"junk"), Request(job="judge"))
    assert [bool(reply.refused) for reply in replies] == [True, True, True]
    assert "no artifact is loaded" in replies[0].refused
    assert replies[0].outputs == replies[2].outputs == []


def test_an_artifact_with_false_claims_is_described_and_not_run(artifact: CheckedArtifact) -> None:
    model = onnx.load_from_string(artifact.data)
    for item in model.metadata_props:
        if item.key.endswith("digest"):
            item.value = "00" * 32
    (loaded, ran), _ = ask(
        Request(job="load", data=model.SerializeToString(deterministic=True)), Request(job="run", rounds=[ROUND])
    )
    assert loaded.summary is not None
    assert loaded.summary.false_claims
    assert "false claims" in ran.refused


def test_a_frame_over_the_limit_is_refused_and_a_torn_one_is_the_end() -> None:
    with pytest.raises(ValueError, match="frame of"):
        read_frame(io.BytesIO(FRAME.pack(MAX_FRAME + 1) + b"x"))
    assert read_frame(io.BytesIO(b"\x00\x00")) == b""


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"bids": [[1, 2]]}, "2 rows of 2"),
        ({"bids": [[1], [2]]}, "2 rows of 2"),
        ({"participation": [1]}, "2 values of 0 or 1"),
        ({"participation": [1, 2]}, "2 values of 0 or 1"),
        ({"context": [1]}, "got 1 values"),
        ({"bids": [[1, 2], [3, 2**53]]}, "no integer"),
        ({"bids": [[1, 2], [3, True]]}, "no integer"),
    ],
)
def test_inputs_of_other_shapes_and_ranges_are_refused(
    artifact: CheckedArtifact, changes: dict[str, Any], text: str
) -> None:
    check_input(artifact.header, ROUND)
    with pytest.raises(ValueError, match=text):
        check_input(artifact.header, msgspec.structs.replace(ROUND, **changes))


@pytest.mark.parametrize("context", [[11, 0], [0, -1], [True, 0]])
def test_a_context_outside_the_grid_is_refused(context: list[int]) -> None:
    priced = build.first_price(bidders=2, bid_max=10, share_bits=4, unit="1", procurement=True)
    item = RoundInput(bids=[[1], [2]], participation=[1, 1], context=[10, 0])
    check_input(priced.header, item)
    with pytest.raises(ValueError, match="context"):
        check_input(priced.header, msgspec.structs.replace(item, context=context))


@pytest.mark.parametrize(
    ("participation", "allocation", "payment", "text"),
    [
        ([1, 1], [[16, 0], [1, 0]], [0, 0], "more than the whole of item 0"),
        ([1, 0], [[0, 0], [0, 16]], [0, 0], "absent seat 1"),
        ([1, 0], [[0, 0], [0, 0]], [0, 1], "absent seat 1"),
        ([1, 1], [[-1, 0], [0, 0]], [0, 0], "negative share"),
        ([1, 1], [[16, 0], [0, 0]], [7 * 16 + 1, 0], "charges seat 0"),
        ([1, 1], [[16, 0], [0, 0]], [-1, 0], "charges seat 0"),
    ],
)
def test_an_artifact_that_breaks_a_law_decides_nothing(
    artifact: CheckedArtifact, participation: list[int], allocation: list[list[int]], payment: list[int], text: str
) -> None:
    item = msgspec.structs.replace(ROUND, participation=participation)
    check_output(artifact.header, ROUND, RoundOutput(allocation=[[16, 0], [0, 16]], payment=[7 * 16, 0]))
    with pytest.raises(ArtifactRefusedError, match=text):
        check_output(artifact.header, item, RoundOutput(allocation=allocation, payment=payment))
