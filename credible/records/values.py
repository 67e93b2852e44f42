"""Valuations of a setting, for training (torch) and for simulation (plain integers), from one source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from credible.records.tsuchiura import load, paired_rounds
from credible.settings import RECORD, Setting
from protocol.errors import MalformedError

if TYPE_CHECKING:
    from credible.simulation.agents import Values
    from mechanisms.participation import ParticipationModel
    from mechanisms.valuations import ValuationModel
    from protocol.artifact import Header

HELD_OUT_EVERY = 5  # every fifth letting day is held out
PAIRING_SEED = 1
DRAWN = 8192  # profiles that a simulation draws from
PATH = 65_536  # rounds of participation that markets begin somewhere in

Profile = list[list[int] | None]  # values by seat, grid units; None for who is not there


def find_record(name: str) -> Path:
    """Return a record's folder, as named or under the checkout that holds this package.

    Raises:
        MalformedError: If it is in neither place.
    """
    for base in (Path(), Path(__file__).resolve().parents[2]):
        if (base / name).exists():
            return base / name
    raise MalformedError(f"{name}: no such record; run from a checkout, or name its folder in the setting")


def recorded_rounds(setting: Setting, *, held_out: bool) -> list[Profile]:
    """Return the record's rounds on the 10^-6 grid, of the training days or of the held-out days."""
    by_day = paired_rounds(load(find_record(setting.values["record"])), setting.bidders, PAIRING_SEED)
    days = sorted(by_day)
    chosen = [day for i, day in enumerate(days) if (i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == held_out]
    return [profile for day in chosen for profile in by_day[day]]


def drawn_rounds(setting: Setting, secret: bytes) -> list[Profile]:
    """Return profiles of everybody drawn from a setting's valuation model, on its grid; the secret decides them."""
    from mechanisms.training.loop import step_generator

    model = valuation_model(msgspec.structs.replace(setting, participation={}))
    profiles = model.sample(DRAWN, step_generator(int.from_bytes(secret[:4], "big"), 8, 0)).numpy()
    return [list(profile) for profile in setting.grid_unit().to_grid(profiles).tolist()]


def market_values(header: Header, setting: str | None, participation: float, secret: bytes) -> Values:
    """Return what a simulated market draws values and presence from.

    Args:
        header: Of the artifact.
        setting: Name or file of a setting; values uniform on the whole grid if left out.
        participation: Chance that a bidder comes, where the setting does not say who does.
        secret: Decides what is drawn of a setting's model.

    Raises:
        MalformedError: If there is no such setting, or it is malformed.
        ValueError: If it does not fit the artifact or the participation.
    """
    import numpy as np

    from credible import settings as store
    from credible.simulation.agents import Values

    n, m = header.bidders, header.items
    if not 0 <= participation <= 1:
        raise ValueError(f"participation is {participation}, wanted 0 to 1")
    if setting is None:
        return Values(n, m, header.bid_max, participation=participation)
    chosen = store.load(setting)
    if (chosen.bidders, chosen.items) != (n, m):
        raise ValueError(f"setting {setting} is for {chosen.bidders} x {chosen.items}, the artifact for {n} x {m}")
    present = drawn_presence(chosen, PATH, secret)
    path = None if present is None else np.array(present, dtype=bool)
    recorded = chosen.values["kind"] == RECORD
    if participation != 1 and (path is not None or recorded):
        raise ValueError(f"{setting} says who comes; it takes no --participation")
    if chosen.values == {"kind": "uniform"}:
        return Values(n, m, header.bid_max, participation=participation, path=path)
    rounds = recorded_rounds(chosen, held_out=True) if recorded else drawn_rounds(chosen, secret)
    seated = np.array([[row is not None for row in profile] for profile in rounds])
    pool = np.array([[row if row is not None else [0] * m for row in profile] for profile in rounds], dtype=np.int64)
    if pool.max() > header.bid_max:
        raise ValueError(
            f"setting {setting} has values up to {pool.max()}, the artifact's bids end at {header.bid_max}"
        )
    return Values(n, m, header.bid_max, pool=pool, seated=seated, participation=participation, path=path)


def participation_model(setting: Setting) -> ParticipationModel | None:
    """Return who comes in a setting; None if everybody does, or as a record says.

    Raises:
        MalformedError: If the model is of no known kind or a parameter does not fit.
    """
    parameters = dict(setting.participation)
    if not parameters:
        return None  # before anything needs torch: a core install simulates such settings
    from mechanisms.participation import named_participation

    try:
        return named_participation(parameters.pop("kind"), setting.bidders, parameters)
    except ValueError as error:
        raise MalformedError(f"{setting.name}: {error}") from error


def drawn_presence(setting: Setting, rounds: int, secret: bytes) -> list[list[bool]] | None:
    """Return who comes in each of some consecutive rounds; the secret decides. None if the setting does not say."""
    model = participation_model(setting)
    if model is None:
        return None
    from mechanisms.participation import Markov
    from mechanisms.training.loop import step_generator

    generator = step_generator(int.from_bytes(secret[:4], "big"), 9, 0)
    drawn = model.path(rounds, generator) if isinstance(model, Markov) else model.sample(rounds, generator)
    return [[bool(bit) for bit in row] for row in drawn.tolist()]


def valuation_model(setting: Setting, *, held_out: bool = False) -> ValuationModel:
    """Return the valuation model of a setting; for a record, of its training or held-out letting days.

    Absent bidders' rows are zero.

    Raises:
        MalformedError: If the values are of no known kind or a parameter does not fit.
    """
    import torch

    from mechanisms.participation import WithParticipation
    from mechanisms.valuations import Empirical, named

    parameters = dict(setting.values)
    kind = parameters.pop("kind")
    if kind != RECORD:
        try:
            values = named(kind, setting.bidders, setting.items, parameters)
            model = participation_model(setting)
            return values if model is None else WithParticipation(values, model)
        except ValueError as error:
            raise MalformedError(f"{setting.name}: {error}") from error
    rounds = recorded_rounds(setting, held_out=held_out)
    zeros = [0] * setting.items
    rows = [[seat if seat is not None else zeros for seat in profile] for profile in rounds]
    return Empirical(torch.tensor(rows, dtype=torch.float64) * float(setting.grid_unit().unit))
