"""Witness policies: which cosignatures make a checkpoint count (C2SP tlog-policy; spec 4.12, 4.14)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from protocol.errors import LimitError, MalformedError
from protocol.keys import COSIGNATURE, ED25519, VerifierKey

MAX_POLICY: Final = 64 * 1024  # spec 12, bytes
MAX_MEMBERS: Final = 32  # logs, witnesses, groups each
NONE: Final = "none"
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_NAME: Final = re.compile(r"[A-Za-z0-9._/-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Policy:
    """Logs, witnesses, groups and the quorum rule.

    Attributes:
        text: The bytes of the policy file, whose SHA-256 the manifest pins.
        logs: Keys of the logs that the policy knows.
        witnesses: Witness keys by the policy's own names.
        groups: Threshold and members by group name.
        quorum: Name of a witness or group, or "none".
    """

    text: bytes
    logs: tuple[VerifierKey, ...]
    witnesses: Mapping[str, VerifierKey]
    groups: Mapping[str, tuple[int, tuple[str, ...]]]
    quorum: str

    @property
    def digest(self) -> str:
        """SHA-256 of the policy file, hex (spec 4.12)."""
        return hashlib.sha256(self.text).hexdigest()

    @classmethod
    def parse(cls, text: bytes) -> Policy:
        """Parse a policy file; raise MalformedError if a line is not one of the format."""
        if len(text) > MAX_POLICY:
            raise LimitError("policy in bytes", len(text), MAX_POLICY)
        try:
            lines = text.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise MalformedError("policy: not ASCII (spec 4.12)") from error
        if _CONTROL.search(text):
            raise MalformedError("policy: holds a control character (spec 4.12)")
        logs: list[VerifierKey] = []
        grouped: set[str] = set()  # a member counts in one group only, or one witness could count twice
        witnesses: dict[str, VerifierKey] = {}
        groups: dict[str, tuple[int, tuple[str, ...]]] = {}
        quorum: str | None = None
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            problem = f"policy line {number}: {line[:60]!r} (spec 4.12)"
            if quorum is not None:
                raise MalformedError(f"{problem}: nothing may follow the quorum")
            if words[0] == "log" and len(words) in (2, 3):
                logs.append(_key(words[1], ED25519, problem))
                if len({log.key for log in logs}) != len(logs):
                    raise MalformedError(f"{problem}: a log's key is named twice")
            elif words[0] == "witness" and len(words) in (3, 4):
                _check_name(words[1], witnesses, groups, problem)
                witnesses[words[1]] = _key(words[2], COSIGNATURE, problem)
            elif words[0] == "group" and len(words) >= 4:
                _check_name(words[1], witnesses, groups, problem)
                members = tuple(words[3:])
                if len(set(members)) != len(members) or any(m not in witnesses and m not in groups for m in members):
                    raise MalformedError(f"{problem}: unknown or repeated member")
                if grouped & set(members):
                    raise MalformedError(f"{problem}: a member is in another group already")
                grouped |= set(members)
                named = {"any": "1", "all": str(len(members))}.get(words[2], words[2])
                if not re.match(r"[1-9][0-9]?\Z", named) or int(named) > len(members):
                    raise MalformedError(f"{problem}: threshold {words[2]}")
                groups[words[1]] = (int(named), members)
            elif words[0] == "quorum" and len(words) == 2:
                quorum = words[1]
                if quorum != NONE and quorum not in witnesses and quorum not in groups:
                    raise MalformedError(f"{problem}: unknown name")
            else:
                raise MalformedError(problem)
            if max(len(logs), len(witnesses), len(groups)) > MAX_MEMBERS:
                raise LimitError("logs, witnesses or groups of a policy", MAX_MEMBERS + 1, MAX_MEMBERS)
        if quorum is None:
            raise MalformedError("policy: no quorum line (spec 4.12)")
        if len({key.key for key in witnesses.values()}) != len(witnesses):
            raise MalformedError("policy: one key stands for two witnesses (spec 4.8)")
        return cls(text, tuple(logs), witnesses, groups, quorum)

    def satisfied(self, cosigners: Iterable[str]) -> bool:
        """Whether cosignatures under these key names make the quorum."""
        names = set(cosigners)

        def holds(name: str) -> bool:
            if name in self.witnesses:
                return self.witnesses[name].name in names
            threshold, members = self.groups[name]
            return sum(holds(member) for member in members) >= threshold

        return self.quorum == NONE or holds(self.quorum)

    def quorum_time(self, times: Mapping[str, int]) -> int | None:
        """Return the earliest time at which the quorum stood; None if it never did."""
        if self.quorum == NONE:
            return 0
        for time in sorted(set(times.values())):
            if self.satisfied(name for name, stamped in times.items() if stamped <= time):
                return time
        return None

    def check_faults(self, faulty: int) -> None:
        """Check that no split view and no standstill is possible with `faulty` bad witnesses (spec 4.14).

        Raises:
            ValueError: If the smallest quorum k of n witnesses breaks 2k - n > f or k <= n - f.
        """
        if self.quorum == NONE:
            return
        names = [key.name for key in self.witnesses.values()]
        smallest = next(k for k in range(len(names) + 1) if any(self.satisfied(c) for c in combinations(names, k)))
        if 2 * smallest - len(names) <= faulty or smallest > len(names) - faulty:
            raise ValueError(
                f"quorum {smallest} of {len(names)} witnesses with {faulty} faulty: a split view or a standstill is "
                "possible (spec 4.14)"
            )


def _key(text: str, kind: int, problem: str) -> VerifierKey:
    key = VerifierKey.parse(text)
    if key.kind != kind:
        raise MalformedError(f"{problem}: key of type {key.kind:#04x}, wanted {kind:#04x}")
    return key


def _check_name(name: str, witnesses: Mapping[str, object], groups: Mapping[str, object], problem: str) -> None:
    if not _NAME.match(name) or name == NONE or name in witnesses or name in groups:
        raise MalformedError(f"{problem}: bad or repeated name")


def group_policy(log: VerifierKey, witnesses: Sequence[VerifierKey], quorum: int) -> Policy:
    """Return the policy of a log with n witnesses of which `quorum` must cosign (spec 4.12)."""
    names = [f"w{number}" for number in range(1, len(witnesses) + 1)]
    lines = [f"log {log}", *(f"witness {name} {key}" for name, key in zip(names, witnesses, strict=True))]
    lines += [f"group witnesses {quorum} {' '.join(names)}", "quorum witnesses"] if len(names) > 1 else []
    lines += [f"quorum {names[0] if names else NONE}"] if len(names) < 2 else []
    return Policy.parse(("\n".join(lines) + "\n").encode("ascii"))
