"""Agents: bidders that see their own values and rows, auctioneers that see what the protocol shows them."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

from credible.simulation.agents.auctioneers import (
    Dropping,
    Equivocating,
    Favouring,
    Honest,
    Inflating,
    Optimal,
    Phantom,
    RandomRounds,
    Rare,
    Refusing,
    Swapping,
    Threshold,
)
from credible.simulation.agents.base import (
    OWN_MODULE,
    AuctioneerAgent,
    Bidder,
    Desk,
    Disclosed,
    Row,
    Seat,
    Settling,
    Terms,
    Values,
    check_sizes,
    runs,
    terms,
)
from credible.simulation.agents.bidders import (
    AdaptiveShill,
    BestResponse,
    Budgeted,
    Exp3,
    Late,
    MultiplicativeWeights,
    Noisy,
    Ring,
    Shading,
    Shill,
    Silent,
    Sybil,
    Truthful,
)

__all__ = [
    "AUCTIONEERS", "BIDDERS", "AuctioneerAgent", "Bidder", "Desk", "Disclosed", "Row", "Seat", "Settling", "Terms",
    "Values", "auctioneer_agent", "bidder_agents", "runs", "spec_digest", "terms",
]  # fmt: skip

Agent = TypeVar("Agent", Bidder, AuctioneerAgent)

BIDDERS: Final[Mapping[str, type[Bidder]]] = {
    "truthful": Truthful, "shade": Shading, "noisy": Noisy, "best-response": BestResponse, "exp3": Exp3,
    "weights": MultiplicativeWeights, "budget": Budgeted, "late": Late, "silent": Silent, "ring": Ring,
    "sybil": Sybil, "shill": Shill, "adaptive-shill": AdaptiveShill,
}  # fmt: skip
AUCTIONEERS: Final[Mapping[str, type[AuctioneerAgent]]] = {
    "honest": Honest, "inflate": Inflating, "phantom": Phantom, "favour": Favouring, "drop": Dropping,
    "swap": Swapping, "threshold": Threshold, "random": RandomRounds, "rare": Rare, "optimal": Optimal,
    "refuse": Refusing, "equivocate": Equivocating,
}  # fmt: skip


def auctioneer_agent(spec: str) -> AuctioneerAgent:
    """Return the auctioneer behind NAME[:ARGUMENT[:ARGUMENT]], or FILE.py:CLASS[:ARGUMENT] of one's own.

    Raises:
        ValueError: If there is no such agent, or its arguments do not fit.
    """
    kind, arguments = _resolve(spec, AUCTIONEERS, AuctioneerAgent)
    return _make(spec, kind, arguments)


def bidder_agents(spec: str, seats: int) -> list[Bidder]:
    """Return the bidders behind a list of specs by commas, in seat order: NAME[:ARGUMENT][*SEATS] or FILE.py:CLASS.

    One spec alone is everybody's: `truthful` for three seats is three bidders, `ring` one of three seats.

    Raises:
        ValueError: If there is no such agent, its arguments do not fit, or the seats do not come out even.
    """
    bidders: list[Bidder] = []
    parts = spec.split(",")
    for part in parts:
        text, star, count = part.strip().partition("*")
        kind, arguments = _resolve(text, BIDDERS, Bidder)
        bidder = _make(part, kind, arguments)
        if star:
            if not (count.isascii() and count.isdigit() and int(count)):
                raise ValueError(f"bidder {part!r}, wanted a number of seats after *")
            bidder.size = int(count)
            if kind.size == 1 and bidder.size > 1:  # several of them, not one with several seats
                bidder.size = 1
                bidders += [_make(part, kind, arguments) for _ in range(int(count) - 1)]
        elif len(parts) == 1 and seats > 1:
            if kind.size == 1:
                bidders += [_make(part, kind, arguments) for _ in range(seats - 1)]
            else:
                bidder.size = seats
        bidders.append(bidder)
    check_sizes(bidders, seats)
    return bidders


def _resolve(spec: str, known: Mapping[str, type[Agent]], base: type[Agent]) -> tuple[type[Agent], list[str]]:
    name, *arguments = spec.strip().split(":")
    if name in known:
        return known[name], arguments
    if name.endswith(".py"):
        return _own(Path(name), arguments[0] if arguments else "", base), arguments[1:]
    listed = ", ".join(known)
    raise ValueError(f"agent {spec!r}, wanted one of {listed}, with arguments after colons; or FILE.py:CLASS")


def _own(path: Path, name: str, base: type[Agent]) -> type[Agent]:
    """Load a class from a user's own file: it runs as the user's program does."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    module = f"{OWN_MODULE}{path.stem}"
    found = importlib.util.spec_from_file_location(module, path)
    if found is None or found.loader is None:
        raise ValueError(f"{path} cannot be loaded")
    loaded = importlib.util.module_from_spec(found)
    sys.modules[module] = loaded
    try:
        found.loader.exec_module(loaded)
    except Exception as error:
        raise ValueError(f"{path} does not load: {type(error).__name__}: {error}") from error
    kind = getattr(loaded, name, None)
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise ValueError(f"{path} has no class {name!r} that is a {base.__name__}")
    return kind


def spec_digest(spec: str) -> str:
    """Return what tells agents apart: the text, and the bytes of the files that it names, hex."""
    digest = hashlib.sha256(spec.encode("utf-8"))
    for part in re.split("[:,*]", spec):
        path = Path(part.strip())
        if path.suffix in (".py", ".onnx") and path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _make(spec: str, kind: type[Agent], arguments: list[str]) -> Agent:
    try:
        return kind(*arguments)
    except TypeError as error:
        raise ValueError(f"agent {spec!r} takes other arguments: {error}") from error
