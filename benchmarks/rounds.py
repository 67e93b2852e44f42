"""What honest logging and full verification of rounds cost, against the floor of the same run.

    python -m benchmarks.rounds               ratios, 3 bidders x 10 items
    python -m benchmarks.rounds scale 10000   one session of so many rounds: rates and peak memory
    python -m benchmarks.rounds startup       the first check of a log, against importing torch

The floor is the bare work that the rounds need, one thread, no Python around it but the call: one Ed25519 verification
per signature, one signature per statement, receipt, row and checkpoint, one X25519 exchange (and key), the HMACs of the
key schedule and the cipher per sealed text, one SHA-256 per leaf, inner node, link and identity, one HMAC a commitment
and two per derived nonce, and the artifact executed in this process (one round at a time for the auctioneer, in batches
for who verifies). The counts follow from the session's log; the work is done between the rounds of the real session and
around its verification, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import wraps
from pathlib import Path
from typing import Any

import nacl.bindings
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from credible.simulation.agent_scenario import agent_scenario
from credible.simulation.market import Market, trust_path
from credible.simulation.setup import Rules, Secrets
from protocol import messages as m
from protocol.artifact import RoundInput, build
from protocol.artifact.engine import Engine
from protocol.auctioneer import Auctioneer
from protocol.verify import Trust, load_public, verify_path

BIDDERS, ITEMS, ROUNDS, REPEATS = 3, 10, 1000, 5
ARTIFACT = build.single_item_reserve(
    [500_000] * ITEMS, bidders=BIDDERS, bid_max=10**6, share_bits=16, unit="1e-6"
)  # a sale per item: the cheapest artifact, so that nothing hides behind its execution


@dataclass(slots=True)
class Meter:
    """Seconds spent inside a class's methods, calls from one to another counted once."""

    seconds: float = 0.0
    depth: int = 0

    def attach(self, kind: type, names: tuple[str, ...]) -> Callable[[], None]:
        """Meter these methods of a class; return what undoes it."""
        originals = {name: getattr(kind, name) for name in names}

        def metered(method: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(method)
            def run(*arguments: Any, **options: Any) -> Any:
                self.depth += 1
                started = time.perf_counter()
                try:
                    return method(*arguments, **options)
                finally:
                    self.depth -= 1
                    if not self.depth:
                        self.seconds += time.perf_counter() - started

            return run

        for name, method in originals.items():
            setattr(kind, name, metered(method))

        def undo() -> None:
            for name, method in originals.items():
                setattr(kind, name, method)

        return undo


AUCTIONEER = (
    "checkpoint", "cosigned", "publish", "receive", "close_registration", "announce", "close", "settle",
    "fix_epoch_root", "close_contributions", "contribute", "respond", "open_epoch",
)  # fmt: skip


def play(
    folder: Path, rounds: int, q: Fraction, between: Callable[[int], None] = lambda done: None
) -> tuple[float, float]:
    """Play an honest session; return the seconds in the auctioneer, and those of storing."""
    secrets = Secrets.seeded(1)
    rules = Rules("prompt", rounds, q=q, seeded=True)
    scenario = agent_scenario(ARTIFACT.header, Engine(ARTIFACT.data), rules, secrets.agents())
    with Market(folder, ARTIFACT.data, rules, scenario, secrets, config=b"{}") as market:
        own, disk = Meter(), Meter()
        undo = [own.attach(Auctioneer, AUCTIONEER), disk.attach(Market, ("_store",))]
        try:
            market.run(between)
        finally:
            for step in undo:
                step()
    return own.seconds, disk.seconds


@dataclass(slots=True)
class Counts:
    """How often a session needs each bare operation, in the auctioneer's path and in verification."""

    verify: int = 0
    sign: int = 0
    keys: int = 0
    exchange: int = 0
    cipher: int = 0
    sha256: int = 0
    hmac: int = 0
    rounds: int = 0


@dataclass(slots=True)
class Needs:
    """A session read from disk: what each side had to do at least, and typical inputs."""

    logging: Counts
    verifying: Counts
    statement: m.Statement
    inputs: list[RoundInput]


def needs(folder: Path) -> Needs:
    """Count from the log what its rounds need."""
    loaded = load_public(folder / "public", None)
    session = loaded.session
    for index, entry in loaded.entries[1:]:
        session.apply(index, entry)
    statements = [m.Statement.decode(entry) for _, entry in loaded.entries]
    own = session.auctioneer.party
    mine = sum(statement.signer == own for statement in statements)
    others = len(statements) - mine
    notes = len(loaded.checkpoints)
    witnesses = 1
    tree = 2 * len(statements)  # a leaf each, and about as many inner nodes
    rounds = [state for state in session.rounds.values() if state.outcome is not None]
    taking_part = sum(len(state.openings) for state in rounds)
    links = taking_part + len(rounds) + sum(len(state.links) for state in session.epochs.values())
    responses = [state.response for state in rounds if state.response is not None]
    shown = sum(len(response.openings) for response in responses)
    receipts = sum(isinstance(s.body, m.Registration | m.Presence | m.Bid | m.OpeningStatement) or
                   (isinstance(s.body, m.Contribution) and s.signer != own) for s in statements)  # fmt: skip
    logging = Counts(
        verify=others + notes * witnesses,
        sign=mine + receipts + notes + taking_part,  # statements, receipts, checkpoints, rows
        keys=taking_part,  # one ephemeral key a row
        exchange=2 * taking_part,  # an opening unsealed, a row sealed
        sha256=tree + receipts + links + 2 * len(rounds) + ITEMS * len(rounds),  # ids, links, seed and close, draws
        cipher=2 * taking_part,
        # an opening checked, a row and a matrix hidden; their nonces; the key schedules of RFC 9180
        hmac=2 * taking_part + len(rounds) + 2 * (taking_part + len(rounds)) + (7 + 11) * taking_part,
        rounds=len(rounds),
    )
    verifying = Counts(
        verify=len(statements) + notes * (1 + witnesses),
        sha256=tree + links + taking_part + len(rounds) + (ITEMS + 1) * len(responses),
        hmac=2 * shown + len(responses),
        rounds=len(responses),
    )
    inputs = [
        RoundInput(
            bids=[opening.body.bids for opening in response.openings]
            + [[0] * ITEMS] * (BIDDERS - len(response.openings)),
            participation=[1] * len(response.openings) + [0] * (BIDDERS - len(response.openings)),
            context=[],
        )
        for response in responses
    ]
    typical = next(statement for statement in statements if isinstance(statement.body, m.Bid))
    return Needs(logging, verifying, typical, inputs)


class Bare:
    """Does the bare work of a session, in parts, between the parts of the real one: both meet the same machine.

    Args:
        need: Gives typical inputs.
        counts: How often each operation is done in the whole session.
        engine: Executes the artifact.
        single: Whether rounds are executed one by one, as they come, or in batches.
    """

    def __init__(self, need: Needs, counts: Counts, engine: Engine, *, single: bool) -> None:
        public, secret = nacl.bindings.crypto_sign_seed_keypair(bytes(32))
        message = need.statement.content
        signed = nacl.bindings.crypto_sign(message, secret)
        private, peer = X25519PrivateKey.generate(), X25519PrivateKey.generate().public_key()
        raw, node, cipher = private.private_bytes_raw(), bytes(65), ChaCha20Poly1305(bytes(32))
        self._jobs: dict[str, Callable[[], object]] = {
            "verify": lambda: nacl.bindings.crypto_sign_open(signed, public),
            "sign": lambda: nacl.bindings.crypto_sign(message, secret),
            "keys": lambda: X25519PrivateKey.from_private_bytes(raw),
            "exchange": lambda: private.exchange(peer),
            "cipher": lambda: cipher.encrypt(bytes(12), message, b""),
            "sha256": lambda: hashlib.sha256(node).digest(),
            "hmac": lambda: hmac.digest(raw, message, "sha256"),
        }
        self._engine, self._inputs, self._single = engine, need.inputs, single
        self._counts = {name: getattr(counts, name) for name in (*self._jobs, "rounds")}
        self.seconds = 0.0

    def part(self, share: float) -> None:
        """Do a share of the work."""
        started = time.perf_counter()
        for name, job in self._jobs.items():
            for _ in range(round(self._counts[name] * share)):
                job()
        rounds = round(self._counts["rounds"] * share)
        batch = (self._inputs * (1 + rounds // max(len(self._inputs), 1)))[:rounds]
        for chunk in [[item] for item in batch] if self._single else [batch]:
            self._engine.run(chunk)
        self.seconds += time.perf_counter() - started


def ratios() -> None:
    """Print auctioneer and verification against their floors, a tenth of the rounds audited and all of them."""
    engine = Engine(ARTIFACT.data)
    for q in (Fraction(1, 10), Fraction(1)):
        with tempfile.TemporaryDirectory() as name:
            play(Path(name) / "session", ROUNDS, q)
            need = needs(Path(name) / "session")
        rows = []
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name) / "session"
                logging = Bare(need, need.logging, engine, single=True)
                own, disk = play(folder, ROUNDS, q, lambda _, bare=logging: bare.part(1 / ROUNDS))
                checking = Bare(need, need.verifying, engine, single=False)
                trust = Trust.read(trust_path(folder))
                checking.part(1 / 2)
                started = time.perf_counter()
                verdict = verify_path(folder, trust)
                taken = time.perf_counter() - started
                checking.part(1 / 2)
                if verdict.verdict != "holds":
                    raise SystemExit(f"verdict {verdict.verdict}: {verdict.findings} {verdict.notes}")
                rows.append((own, own / logging.seconds, disk / own, taken, taken / checking.seconds, taken / own))
        own, over, disk, taken, above, relation = (statistics.median(column) for column in zip(*rows, strict=True))
        print(
            f"q = {q}: auctioneer {ROUNDS / own:.0f} rounds/s, {over:.2f}x its floor (storing takes {disk:.2f} of that "
            f"besides); verification {ROUNDS / taken:.0f} rounds/s, {above:.2f}x its floor; verifying takes "
            f"{relation:.2f} of logging; medians of {REPEATS} sessions of {ROUNDS} rounds"
        )


def scale(rounds: int) -> None:
    """Play and verify one session of many rounds, each in its own process; print rates and peak memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "session"
        for job in ("play", "verify"):
            command = [sys.executable, "-m", "benchmarks.rounds", job, str(rounds), "--folder", str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"{rounds} rounds: {done.stdout.strip()}", flush=True)


def one(job: str, rounds: int, folder: Path) -> None:
    """Do one half of `scale`."""
    started = time.perf_counter()
    if job == "play":
        play(folder, rounds, Fraction(1, 10))
    elif (verdict := verify_path(folder, Trust.read(trust_path(folder)))).verdict != "holds":
        raise SystemExit(f"verdict {verdict.verdict}: {verdict.notes}")
    taken = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{job} {rounds / taken:.0f} rounds/s, {taken / rounds * 1e3:.2f} ms a round, peak memory {memory:.0f} MiB")


STARTUP = """
import sys, time
started = time.perf_counter()
from pathlib import Path
import credible.cli
credible.cli.build_app(["verify"])
from protocol.verify import load_public
load_public(Path(sys.argv[1]), None)
taken = time.perf_counter() - started
assert not {"torch", "onnx", "onnxruntime"} & set(sys.modules)
print(taken)
"""


def startup() -> None:
    """Print the time from the start of the command line to a log whose hashes and signatures hold."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "session"
        play(folder, 5, Fraction(1))
        first, torch = [], []
        for _ in range(REPEATS):
            for taken, code in ((first, STARTUP), (torch, "import time; s = time.perf_counter(); import torch; "
                                                          "print(time.perf_counter() - s)")):  # fmt: skip
                command = [sys.executable, "-c", code, str(folder / "public")]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                taken.append(float(done.stdout))
    log, heavy = statistics.median(first), statistics.median(torch)
    print(f"first check of a log after {log:.2f} s, {log / heavy:.2f} of importing torch ({heavy:.2f} s)")


def main() -> None:
    """Print the ratios and the start."""
    ratios()
    startup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", nargs="?", choices=("ratios", "startup", "scale", "play", "verify"), default="ratios")
    parser.add_argument("rounds", nargs="?", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    if chosen.job in ("play", "verify"):
        one(chosen.job, chosen.rounds, chosen.folder)
    else:
        {"ratios": ratios, "startup": startup, "scale": lambda: scale(chosen.rounds)}[chosen.job]()
