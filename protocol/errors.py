"""The errors of `protocol`.

```text
ProtocolError                    bad data from another party; never a programming error (that is ValueError)
├── MalformedError               unreadable, not canonical, over a limit          exit status 3 (spec 8.6)
│   ├── LimitError               larger than spec 12 allows
│   └── ArtifactRefusedError     a model file that the static checks refuse (spec 2.14)
├── VerificationError            well-formed, but a proof, signature or rule fails exit status 1
│   ├── SignatureError           a signature or a key that spec 2.7 refuses
│   ├── RootMismatchError        a proof that leads to another root (spec 4.3, 4.4)
│   └── BindingError             a message of another session, round, bidder or mechanism (spec 8.5)
└── InconclusiveError            something needed is missing, stale or not trusted exit status 4
```
"""

from __future__ import annotations


class ProtocolError(Exception):
    """Bad data from another party."""


class MalformedError(ProtocolError):
    """The input is unreadable, not in its canonical form, or over a limit."""


class LimitError(MalformedError):
    """The input is larger than spec 12 allows; raised before the work that the limit bounds (spec 12.1)."""

    def __init__(self, what: str, got: int, limit: int) -> None:
        super().__init__(what, got, limit)  # positional, so that it survives copying
        self.what, self.got, self.limit = what, got, limit

    def __str__(self) -> str:
        return f"{self.what}: got {self.got}, the limit is {self.limit} (spec 12)"


class ArtifactRefusedError(MalformedError):
    """The static checks refuse a model file (spec 2.14, hardening 2)."""


class VerificationError(ProtocolError):
    """A well-formed input whose proof, signature or rule does not hold."""


class SignatureError(VerificationError):
    """A signature that does not verify, or a key that must not be used (spec 2.7)."""


class RootMismatchError(VerificationError):
    """A proof leads to another root than the checkpoint states (spec 4.3, 4.4)."""

    def __init__(self, computed: bytes, stated: bytes) -> None:
        super().__init__(computed, stated)
        self.computed, self.stated = computed, stated

    def __str__(self) -> str:
        return f"proof leads to root {self.computed.hex()}, checkpoint states {self.stated.hex()}"


class BindingError(VerificationError):
    """A message that belongs to another session, round, bidder or mechanism (spec 8.5)."""


class InconclusiveError(ProtocolError):
    """Something that the verdict needs is missing, stale or not trusted (spec 8.6)."""
