"""Building an artifact file from header and integer parameters: the exporter's last steps (design section 4)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy.typing as npt

from protocol.artifact.classes import mechanism_class
from protocol.artifact.classes.network import CLASS, UNIT
from protocol.artifact.header import FORMAT, Header
from protocol.artifact.parameters import as_parameter
from protocol.artifact.static import CheckedArtifact, check
from protocol.errors import ArtifactRefusedError


def build(header: Header, **parameters: npt.ArrayLike) -> CheckedArtifact:
    """Compile a mechanism into the bytes of an artifact, checked and proved.

    Args:
        header: What the mechanism is.
        **parameters: Its integer parameters, by the names and shapes of the class's schema.

    Raises:
        ArtifactRefusedError: If a parameter breaks the class's exact checks or the interval proof fails.
    """
    kind = mechanism_class(header.kind)
    values = kind.read(header, {name: as_parameter(value, name) for name, value in parameters.items()})
    extra = set(parameters) - set(values)
    if extra:
        raise ArtifactRefusedError(f"class {kind.name} has no parameter {', '.join(sorted(extra))}")
    problems = kind.check(header, values)
    if problems:
        raise ArtifactRefusedError("; ".join(problems))
    return check(kind.build(header, values).SerializeToString(deterministic=True))


def menu_affine(
    menu: npt.ArrayLike, boosts: npt.ArrayLike, weights: npt.ArrayLike, *, bid_max: int, share_bits: int, unit: str,
    fee: Mapping[str, npt.ArrayLike] | None = None,
) -> CheckedArtifact:  # fmt: skip
    """Build an affine maximizer.

    Args:
        menu: Shares in 2^-share_bits, (menu, bidders, items).
        boosts: In fine units times the weight unit, (menu,).
        weights: Integers of at least 1, (bidders,).
        bid_max: Largest bid, grid units.
        share_bits: q.
        unit: What people call one grid unit.
        fee: Parameters `fee_...` of a rival-only fee; none if left out.
    """
    shares = as_parameter(menu, "menu")
    if shares.ndim != 3:
        raise ArtifactRefusedError(f"menu has shape {shares.shape}, wanted (menu, bidders, items)")
    header = Header(
        bid_max=bid_max, bidders=shares.shape[1], context=[], format=FORMAT, items=shares.shape[2],
        kind="menu-affine-fee" if fee else "menu-affine", rounding="floor", share_bits=share_bits, ties="lowest_index",
        unit=unit,
    )  # fmt: skip
    return build(header, menu=shares, boosts=boosts, weights=weights, **(fee or {}))


def size_boost(
    boosts: npt.ArrayLike, weights: npt.ArrayLike, *, items: int, bid_max: int, share_bits: int, unit: str,
    fee: Mapping[str, npt.ArrayLike] | None = None,
) -> CheckedArtifact:  # fmt: skip
    """Build a size-boosted affine maximizer: boosts in the order of `size_vectors`, the rest as in `menu_affine`."""
    header = Header(
        bid_max=bid_max, bidders=len(as_parameter(weights, "weights")), context=[], format=FORMAT, items=items,
        kind="size-boost-fee" if fee else "size-boost", rounding="floor", share_bits=share_bits, ties="lowest_owner",
        unit=unit,
    )  # fmt: skip
    return build(header, boosts=boosts, weights=weights, **(fee or {}))


def aggregated(
    stage_of: npt.ArrayLike, boosts: npt.ArrayLike, weights: npt.ArrayLike, *, items: int, bid_max: int,
    share_bits: int, unit: str,
) -> CheckedArtifact:  # fmt: skip
    """Build an aggregated auction.

    Args:
        stage_of: Row of boosts and weights by participation profile, (2^bidders,); seat 1 is the highest binary digit.
        boosts: In the order of `size_vectors`, fine units times the weight unit, (rows, states).
        weights: Integers of at least 1, (rows, bidders).
        items: Number of items.
        bid_max: Largest bid, grid units.
        share_bits: q.
        unit: What people call one grid unit.
    """
    rows = as_parameter(weights, "weights")
    if rows.ndim != 2:
        raise ArtifactRefusedError(f"weights have shape {rows.shape}, wanted (rows, bidders)")
    header = Header(
        bid_max=bid_max, bidders=rows.shape[1], context=[], format=FORMAT, items=items, kind="aggregated",
        rounding="floor", share_bits=share_bits, ties="lowest_owner", unit=unit,
    )  # fmt: skip
    return build(header, stage_of=stage_of, boosts=boosts, weights=rows)


def single_item_reserve(
    reserves: npt.ArrayLike, *, bidders: int, bid_max: int, share_bits: int, unit: str
) -> CheckedArtifact:
    """Build separate second-price auctions with reserves (items,) in grid units."""
    values = as_parameter(reserves, "reserves")
    header = Header(
        bid_max=bid_max, bidders=bidders, context=[], format=FORMAT, items=len(values), kind="single-item-reserve",
        rounding="exact", share_bits=share_bits, ties="lowest_index", unit=unit,
    )  # fmt: skip
    return build(header, reserves=values)


def first_price(*, bidders: int, bid_max: int, share_bits: int, unit: str, procurement: bool) -> CheckedArtifact:
    """Build a first-price auction for one item; procurement takes reserve and minimum as context, forward a reserve."""
    header = Header(
        bid_max=bid_max, bidders=bidders, context=["reserve", "minimum"] if procurement else ["reserve"],
        format=FORMAT, items=1, kind="first-price", rounding="exact", share_bits=share_bits, ties="share_evenly",
        unit=unit,
    )  # fmt: skip
    return build(header)


def network(
    *, bidders: int, items: int, bid_max: int, share_bits: int, unit: str, **parameters: npt.ArrayLike
) -> CheckedArtifact:
    """Build a network in fixed point; its parameters by the names and units of `classes.network`.

    With those of a perceptron `want` it is one for unit demand.
    """
    kind = UNIT.name if "want_first" in parameters else CLASS.name
    header = Header(
        bid_max=bid_max, bidders=bidders, context=[], format=FORMAT, items=items, kind=kind, rounding="floor",
        share_bits=share_bits, ties="lowest_index", unit=unit,
    )  # fmt: skip
    return build(header, **parameters)
