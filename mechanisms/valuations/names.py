"""Valuation models by name, for settings files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final

import msgspec

from mechanisms.valuations import correlated, independent
from mechanisms.valuations.model import ValuationModel

NAMES: Final[dict[str, Callable[..., ValuationModel]]] = {
    "uniform": independent.Uniform,
    "asymmetric_uniform": independent.AsymmetricUniform,
    "exponential": independent.Exponential,
    "beta": independent.Beta,
    "power_law": independent.PowerLaw,
    "heterogeneous_mixture": independent.HeterogeneousMixture,
    "dirichlet_share": correlated.DirichletShare,
    "linear_mixture": correlated.LinearMixture,
    "equal_revenue": correlated.EqualRevenue,
    "perfect_negative": correlated.PerfectNegative,
    "multivariate_normal": correlated.MultivariateNormal,
    "latent_factor": correlated.LatentFactor,
    "log_normal_copula": correlated.LogNormalCopula,
    "spherical": correlated.Spherical,
}


def named(name: str, bidders: int, items: int, parameters: Mapping[str, Any]) -> ValuationModel:
    """Return a valuation model.

    Args:
        name: One of `NAMES`.
        bidders: Number of bidders.
        items: Number of items.
        parameters: The model's own fields.

    Raises:
        ValueError: If the name or a parameter is not known, one is missing or out of range, or the model is for another
            number of items.
    """
    kind: Any = NAMES.get(name)
    if kind is None:
        raise ValueError(f"values of kind {name!r} are not known, wanted one of {', '.join(NAMES)}")
    known = {field.name for field in fields(kind)}
    size = {key: value for key, value in (("bidders", bidders), ("items", items)) if key in known}
    unknown = sorted(set(parameters) - (known - set(size)))
    if unknown:
        wanted = ", ".join(sorted(known - set(size))) or "none"
        raise ValueError(f"values of kind {name} have no parameter {unknown[0]!r}, wanted: {wanted}")
    try:
        model: ValuationModel = msgspec.convert({**parameters, **size}, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"values of kind {name}: {error}") from error
    if model.items != items:
        raise ValueError(f"values of kind {name} are for {model.items} items, the setting has {items}")
    return model
