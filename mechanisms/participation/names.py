"""Participation models by name, for settings files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch

from mechanisms.participation.models import Counts, Independent, Markov, ParticipationModel, Profiles

NAMES: Final = {
    "profiles": ("profiles", "probabilities"),
    "independent": ("probabilities",),
    "counts": ("counts",),
    "markov": ("arrive", "leave"),
}


def named_participation(name: str, bidders: int, parameters: Mapping[str, Any]) -> ParticipationModel:
    """Return a participation model.

    Args:
        name: One of `NAMES`.
        bidders: Number of bidders.
        parameters: The model's own lists of numbers; `profiles` are texts of one digit for each seat, "101".

    Raises:
        ValueError: If the name or a parameter is not known, one is missing or out of range, or the model is for another
            number of bidders.
    """
    if name not in NAMES:
        raise ValueError(f"participation of kind {name!r} is not known, wanted one of {', '.join(NAMES)}")
    if set(parameters) != set(NAMES[name]):
        raise ValueError(
            f"participation of kind {name} has {', '.join(sorted(parameters)) or 'nothing'}, "
            f"wanted {', '.join(NAMES[name])}"
        )
    for key, value in parameters.items():
        if not isinstance(value, list) or not value:
            raise ValueError(f"participation.{key} is {value!r}, wanted a list")
        if key != "profiles" and not all(isinstance(n, int | float) and not isinstance(n, bool) for n in value):
            raise ValueError(f"participation.{key} is {value!r}, wanted numbers")
    if name == "profiles":
        wrong = [
            text
            for text in parameters["profiles"]
            if not isinstance(text, str) or len(text) != bidders or set(text) - {"0", "1"}
        ]
        if wrong:
            raise ValueError(f"participation.profiles has {wrong[0]!r}, wanted texts of {bidders} digits 0 or 1")
        if len(parameters["profiles"]) != len(parameters["probabilities"]):
            raise ValueError("participation.profiles and participation.probabilities differ in length")
        listed = torch.tensor([[digit == "1" for digit in text] for text in parameters["profiles"]])
        return Profiles(listed, torch.tensor(parameters["probabilities"], dtype=torch.float64))
    numbers = {key: torch.tensor(value, dtype=torch.float64) for key, value in parameters.items()}
    if len({len(value) for value in numbers.values()}) > 1:
        raise ValueError("participation.arrive and participation.leave differ in length")
    model: ParticipationModel = {"independent": Independent, "counts": Counts, "markov": Markov}[name](**numbers)
    if model.bidders != bidders:
        raise ValueError(f"participation of kind {name} is for {model.bidders} bidders, the setting has {bidders}")
    return model
