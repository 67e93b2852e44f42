"""Certification from the file alone: is this the mechanism class that it claims to be? (design section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.artifact.graph import graph_digest
from protocol.artifact.static import CheckedArtifact


@dataclass(frozen=True, slots=True)
class Certificate:
    """The result of a certification.

    Attributes:
        kind: The claimed class.
        certified: True if the graph is the canonical graph of its class, every exact check passes, and the class rests
            on a theorem.
        theorem: That theorem; None if the class has none.
        problems: Why not, in words; empty if certified or if the class has no theorem.
    """

    kind: str
    certified: bool
    theorem: str | None
    problems: tuple[str, ...]


def certify(artifact: CheckedArtifact) -> Certificate:
    """Rebuild the canonical graph of the claimed class from the file's parameters and compare graph digests."""
    problems = list(artifact.false_claims)
    problems += artifact.kind.check(artifact.header, artifact.parameters)
    if not problems:
        model = artifact.kind.build(artifact.header, artifact.parameters)
        rebuilt = graph_digest(model)
        if rebuilt != artifact.graph_digest:
            problems.append(
                f"the graph is not the canonical graph of class {artifact.kind.name}: "
                f"digest {artifact.graph_digest[:16]}..., rebuilt {rebuilt[:16]}..."
            )
        elif model.SerializeToString(deterministic=True) != artifact.data:
            problems.append("the file decorates its canonical graph: names, order or text are not those of the class")
    theorem = artifact.kind.theorem
    return Certificate(artifact.kind.name, theorem is not None and not problems, theorem, tuple(problems))
