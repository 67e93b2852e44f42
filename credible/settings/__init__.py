"""Named settings: what to train on, how, and on which grid, as TOML files beside this module."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from credible.money import GridUnit
from protocol.errors import MalformedError

FOLDER: Final = Path(__file__).parent
RECORD: Final = "tsuchiura"
METHODS: Final = (
    "lottery-ama", "menu-network", "size-boost", "size-boost-fee", "lottery-ama-fee", "ca-ama", "deterministic-ama",
    "mbarp", "vvca", "item-can", "aggregated", "aggregated-generator", "algnet",
    "algnet-published", "regretnet", "regretnet-local", "regretnet-kept", "equivariantnet", "regretformer",
    "auction-mech", "myerson-net",
)  # fmt: skip


class GridTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The artifact's grid: `unit` of value as a fraction "1/1000000", largest bid, share bits."""

    unit: str
    bid_max: int
    share_bits: int


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one method trains on a setting.

    Schedule: `iterations`, `batch`, `temperature` (first and last), `learning_rate`, `boost_rate`, `fee_rate`. Of a
    lottery AMA: `entries` (0 starts from all deterministic allocations), `start` (spread of logits), `starts` (menus
    side by side, the best is kept). Of boosts: `reserves` (one start each), `classes` ("sorted" or "ordered").
    Of fees: `hidden` (width), `shared` (one network for all bidders), `price`, `fitted`, `hardness` (see `FeeAMA`), or
    `gamma`, `target` (in units of value), `mutual` (see `CorrelationAwareAMA`). Of a menu network: `entries`, `start`,
    `hidden`, `layers`, `weighted`, `varying` (see `MenuNetwork`). Of item-can: `hidden`, `shared`. Of aggregated
    auctions: `reserves`, `shared` (exchangeable bidders share stage auctions). Of algnet: `hidden`, `layers`, `starts`,
    `misreport_steps`, `misreport_rate`, `reach`, `patience` (see `AlgNetTraining`). Of myerson-net: `layers`
    (groups), `hidden` (pieces), `starts`. Of regretnet and its
    variants, equivariantnet, regretformer and auction-mech: `hidden`, `layers` (not of auction-mech), `starts`,
    `misreports`, `misreport_steps`, `misreport_rate`, `penalty`, `budget`, `multiplier`, `dual_rate`, `curvature`,
    `monotone`, `imitate` (see `NetworkTraining`).
    """

    iterations: int
    batch: tuple[int, int]
    temperature: tuple[float, float]
    learning_rate: float
    boost_rate: float = 0.0
    fee_rate: float = 0.0
    entries: int = 0
    start: float = 0.0
    starts: int = 1
    reserves: tuple[float, ...] = ()
    classes: Literal["sorted", "ordered"] = "sorted"
    hidden: int = 64
    shared: bool = True
    price: float = 3.0
    fitted: float = 0.5
    hardness: tuple[float, float] = (60.0, 600.0)
    gamma: float = 3.0
    target: float = 0.001
    mutual: float = 0.5
    layers: int = 1
    weighted: bool = False
    varying: bool = False
    misreport_steps: int = 100
    misreport_rate: float = 0.001
    reach: float = 1.0
    patience: int = 0
    budget: tuple[float, float] = (0.01, 0.0005)
    multiplier: float = 1.0
    dual_rate: float = 0.5
    misreports: Literal["random", "truth", "kept"] = "random"
    penalty: Literal["budget", "lagrangian", "fixed"] = "budget"
    curvature: float = 1.0
    monotone: float = 0.0
    imitate: int = 0


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One setting: the auction, its values, its grid, a recipe for each method.

    `values` names a valuation model in `kind` and gives its parameters, or the procurement record "tsuchiura". Bidders
    of unit `demand` want one item; menus then give nobody more. `participation`, if given, names a participation model
    in `kind` and gives its parameters; everybody comes if left out.
    """

    name: str
    about: str
    bidders: int
    items: int
    values: dict[str, Any]
    grid: GridTable
    train: dict[str, Recipe]
    demand: Literal["additive", "unit"] = "additive"
    participation: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Raise ValueError where a field leaves its range."""
        if self.bidders < 1 or self.items < 1:
            raise ValueError(f"{self.bidders} bidders and {self.items} items, wanted at least one of each")
        if not isinstance(self.values.get("kind"), str):
            raise ValueError(f"values.kind is {self.values.get('kind')!r}, wanted the name of a valuation model")
        if self.values["kind"] == RECORD and (self.items != 2 or set(self.values) != {"kind", "record"}):
            raise ValueError(f"values of kind {RECORD} have 2 items and a field `record`, got {self.items} items")
        if self.participation and not isinstance(self.participation.get("kind"), str):
            raise ValueError(
                f"participation.kind is {self.participation.get('kind')!r}, wanted the name of a participation model"
            )
        if self.participation and self.values["kind"] == RECORD:
            raise ValueError("a record has its own participation")
        unknown = sorted(set(self.train) - set(METHODS))
        if unknown:
            raise ValueError(f"train has a recipe for {unknown[0]!r}, wanted one of {', '.join(METHODS)}")
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
