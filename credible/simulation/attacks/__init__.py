"""The attack catalogue: one executable adversary per row of docs/spec.md, section 10."""

from credible.simulation.attacks import auctioneers, bidders, outsiders  # noqa: F401 - each registers its attacks
from credible.simulation.attacks.catalogue import CAUGHT, OPEN, PREVENTED, Attack, Observed, Stage, attacks

__all__ = ["CAUGHT", "OPEN", "PREVENTED", "Attack", "Observed", "Stage", "attacks"]
