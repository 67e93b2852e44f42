"""Named settings: what to train on, how, and on which grid, as TOML files beside this module."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Final

import msgspec

from credible.money import GridUnit
from protocol.errors import MalformedError

FOLDER: Final = Path(__file__).parent


class Values(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where valuations come from: "uniform" on [low, high], or "tsuchiura" (the procurement record in `record`)."""

    kind: str
    low: float = 0.0
    high: float = 1.0
    record: str = ""


class GridTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The artifact's grid: `unit` of value as a fraction "1/1000000", largest bid, share bits."""

    unit: str
    bid_max: int
    share_bits: int


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The recipe of the lottery AMA; `entries` 0 starts from all deterministic allocations."""

    entries: int
    start: float
    iterations: int
    batch: tuple[int, int]
    temperature: tuple[float, float]
    learning_rate: float
    boost_rate: float = 0.0


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One setting: the auction, its values, its grid, its recipe."""

    name: str
    about: str
    bidders: int
    items: int
    values: Values
    grid: GridTable
    train: Training

    def __post_init__(self) -> None:
        """Raise ValueError where a field leaves its range."""
        if self.bidders < 1 or self.items < 1:
            raise ValueError(f"{self.bidders} bidders and {self.items} items, wanted at least one of each")
        if self.values.kind not in ("uniform", "tsuchiura"):
            raise ValueError(f"values.kind is {self.values.kind!r}, wanted uniform or tsuchiura")
        if self.values.kind == "tsuchiura" and self.items != 2:
            raise ValueError(f"values of kind tsuchiura have 2 items, the setting says {self.items}")
        if self.grid_unit().unit <= 0:
            raise ValueError(f"grid.unit is {self.grid.unit}, wanted above 0")

    def grid_unit(self) -> GridUnit:
        """Return the grid as numbers."""
        return GridUnit(Fraction(self.grid.unit), self.grid.bid_max, self.grid.share_bits, f"{self.grid.unit} of value")


def names() -> list[str]:
    """Return the names of the settings that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name_or_file: str) -> Setting:
    """Return a named setting, or one from a TOML file.

    Raises:
        MalformedError: If there is no such setting or file, or it is not one.
    """
    path = FOLDER / f"{name_or_file}.toml" if name_or_file in names() else Path(name_or_file)
    if path.suffix != ".toml" or not path.is_file():
        raise MalformedError(f"setting {name_or_file!r} is not known and no .toml file; known: {', '.join(names())}")
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Setting, strict=False)
    except (
        tomllib.TOMLDecodeError,
        UnicodeDecodeError,
        msgspec.ValidationError,
        ValueError,
        ZeroDivisionError,
    ) as error:
        raise MalformedError(f"{path}: {error}") from error
