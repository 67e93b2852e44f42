"""The one registry of mechanism classes: schema, canonical graph, theorem, exact checks (design section 4).

Export, certification, execution and cards all read it. A class is a module that defines one `MechanismClass`.
"""

from __future__ import annotations

from typing import Final

from protocol.artifact.classes import aggregated, first_price, menu_affine, network, single_item_reserve, size_boost
from protocol.artifact.classes.base import MechanismClass
from protocol.errors import ArtifactRefusedError

REGISTRY: Final[dict[str, MechanismClass]] = {
    entry.name: entry
    for entry in (
        menu_affine.CLASS,
        menu_affine.WITH_FEE,
        size_boost.CLASS,
        size_boost.WITH_FEE,
        aggregated.CLASS,
        single_item_reserve.CLASS,
        first_price.CLASS,
        network.CLASS,
        network.UNIT,
    )
}


def mechanism_class(name: str) -> MechanismClass:
    """Return a registered class; raise ArtifactRefusedError for an unknown name."""
    if name not in REGISTRY:
        raise ArtifactRefusedError(
            f"mechanism class {name!r} is not known, wanted one of {', '.join(sorted(REGISTRY))}"
        )
    return REGISTRY[name]


__all__ = ["REGISTRY", "MechanismClass", "mechanism_class"]
