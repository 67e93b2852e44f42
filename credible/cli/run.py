"""credible run."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from credible.cli.common import Json, UsageError, read_input, show
from credible.money import parse_decimal
from credible.records.tables import read_table
from protocol.artifact import Header, RoundInput, Sandbox
from protocol.artifact.header import MAX_BYTES
from protocol.errors import MalformedError


def run(
    file: Annotated[Path, typer.Argument(help="Artifact FILE.onnx.")],
    bids: Annotated[
        Path, typer.Argument(help="CSV: columns round, seat, item_0, item_1, ...; a seat left out is absent.")
    ],
    context: Annotated[
        Path | None, typer.Option(help="CSV with round and one column per context value, if the artifact takes any.")
    ] = None,
    decimals: Annotated[
        str | None,
        typer.Option("--decimals", help="Bids are decimal numbers in this unit, say 1/1000000; else integers."),
    ] = None,
    json: Json = False,
) -> None:
    """Execute a mechanism on bids; allocations and payments are integers in fine units."""
    data = read_input(file, MAX_BYTES)
    try:
        unit = Fraction(decimals) if decimals else None
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"--decimals {decimals!r} is no fraction") from error
    if unit is not None and unit <= 0:
        raise UsageError(f"--decimals {decimals!r}, wanted above 0")
    with Sandbox(data) as sandbox:
        header = sandbox.header
        rounds = _read_rounds(header, bids, context, unit)
        outputs = sandbox.run(list(rounds.values()))
    allocation = [output.allocation for output in outputs]
    payment = [output.payment for output in outputs]
    units = {
        "allocation": f"1/{header.unit_share} of an item",
        "payment": f"1/{header.unit_share} of a grid unit ({header.unit})",
        "rounds": list(rounds),
    }
    lines = []
    for number, output in zip(rounds, outputs, strict=True):
        for seat, (row, paid) in enumerate(zip(output.allocation, output.payment, strict=True)):
            if any(row) or paid:
                lines.append(f"round {number} seat {seat}: shares {row}, pays {paid}")
    lines.append(f"units: shares of {units['allocation']}, payments of {units['payment']}")
    show({"allocation": allocation, "payment": payment, "units": units}, lines, as_json=json)


def _read_rounds(header: Header, bids: Path, context: Path | None, unit: Fraction | None) -> dict[int, RoundInput]:
    items = [f"item_{index}" for index in range(header.items)]
    seats: dict[int, dict[int, list[int]]] = defaultdict(dict)
    for row in read_table(bids, ("round", "seat", *items)):
        number, seat = row.integer("round"), row.integer("seat")
        if not 0 <= seat < header.bidders or seat in seats[number]:
            raise row.error(f"seat {seat} of round {number}: wanted 0 to {header.bidders - 1}, each once")
        values = []
        for item in items:
            try:
                value = row.integer(item) if unit is None else parse_decimal(row.text(item), unit)
            except ValueError as error:
                raise row.error(str(error)) from error
            if not 0 <= value <= header.bid_max:
                raise row.error(f"bid {value} for {item}: wanted 0 to {header.bid_max} grid units")
            values.append(value)
        seats[number][seat] = values
    contexts: dict[int, list[int]] = {}
    if header.context:
        if context is None:
            raise UsageError(f"the artifact takes context {', '.join(header.context)}: give --context FILE.csv")
        for row in read_table(context, ("round", *header.context)):
            given = [row.integer(name) for name in header.context]
            if any(not 0 <= value <= header.bid_max for value in given):
                raise row.error(f"context {given}: wanted 0 to {header.bid_max} grid units")
            contexts[row.integer("round")] = given
    result = {}
    zeros = [0] * header.items
    for number in sorted(seats):
        if header.context and number not in contexts:
            raise MalformedError(f"{context}: no row for round {number}")
        result[number] = RoundInput(
            bids=[seats[number].get(seat, zeros) for seat in range(header.bidders)],
            participation=[int(seat in seats[number]) for seat in range(header.bidders)],
            context=contexts.get(number, []),
        )
    return result
