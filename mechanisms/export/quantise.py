"""Rounding a float affine maximizer to the artifact's grid (AMA-3).

Rounding parameters costs revenue only: any integer menu, boosts and weights are an exact affine maximizer.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import numpy as np
import numpy.typing as npt
from protocol.artifact.build import menu_affine, size_boost
from protocol.artifact.static import CheckedArtifact

from mechanisms.affine import AffineMaximizer, SizeBoosted

WEIGHT_MAX: Final = 1 << 10


def quantise(
    mechanism: AffineMaximizer | SizeBoosted, *, unit: Fraction, bid_max: int, share_bits: int, name: str
) -> CheckedArtifact:
    """Return the artifact of an affine maximizer, of the class that its type has.

    Args:
        mechanism: The float mechanism, values in units of value.
        unit: Value of one grid unit.
        bid_max: Largest bid, grid units.
        share_bits: q: shares count 2^-q.
        name: What people call one grid unit.

    Raises:
        ArtifactRefusedError: If the integers would leave the exact range.
    """
    whole = 1 << share_bits
    raw = mechanism.weights.numpy()
    equal = bool((raw == raw[0]).all())
    factor = 1.0 / float(raw[0]) if equal else WEIGHT_MAX / float(raw.max())
    weights = np.maximum(np.rint(raw * factor), 1).astype(np.int64)
    boosts = np.rint(mechanism.boosts.numpy() * factor * whole / float(unit)).astype(np.int64)
    if isinstance(mechanism, SizeBoosted):
        return size_boost(boosts, weights, items=mechanism.items, bid_max=bid_max, share_bits=share_bits, unit=name)
    menu = np.rint(mechanism.menu.numpy() * whole).astype(np.int64)
    for entry, item in np.argwhere(menu.sum(axis=1) > whole):  # nearest shares may give out too much: take it back
        while menu[entry, :, item].sum() > whole:
            menu[entry, int(menu[entry, :, item].argmax()), item] -= 1  # one unit at a time, from the largest
    menu, boosts = _without_repeats(menu, boosts)
    return menu_affine(menu, boosts, weights, bid_max=bid_max, share_bits=share_bits, unit=name)


def _without_repeats(
    menu: npt.NDArray[np.int64], boosts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Keep, of entries with equal shares, the first of greatest boost: the others can never be chosen."""
    best: dict[bytes, int] = {}
    for index in range(len(menu)):
        key = menu[index].tobytes()
        if key not in best or boosts[index] > boosts[best[key]]:
            best[key] = index
    kept = sorted(best.values())
    return menu[kept], boosts[kept]
