"""credible export."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from credible.cli.common import Json, UsageError, need_new, open_run, show
from credible.settings import Setting
from protocol.storage.files import write_file

if TYPE_CHECKING:
    from mechanisms.outcome import Mechanism
    from protocol.artifact.static import CheckedArtifact

CLASSIC = ("second-price", "vcg", "myerson-uniform", "first-price", "procurement")


def export(
    source: Annotated[str, typer.Argument(help=f"Run folder, or a classic auction: {', '.join(CLASSIC)}.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.onnx to write; the card goes beside it.")],
    bidders: Annotated[int, typer.Option(help="Seats of a classic auction.", min=1)] = 3,
    items: Annotated[int, typer.Option(help="Items of a classic auction, each sold alone.", min=1)] = 1,
    bid_max: Annotated[int, typer.Option(help="Largest bid of a classic auction, in grid units.", min=1)] = 1_000_000,
    share_bits: Annotated[int, typer.Option(help="Shares count 2^-q of an item.", min=0, max=32)] = 16,
    reserve: Annotated[int, typer.Option(help="Reserve of second-price, in grid units.", min=0)] = 0,
    unit: Annotated[str, typer.Option(help="What one grid unit of a classic auction is.")] = "1e-6 of value",
    json: Json = False,
) -> None:
    """Quantise, compile, prove exact and check against the float mechanism; write the artifact and its card."""
    need_new(output)
    measured: dict[str, Any] = {}
    if source in CLASSIC:
        from protocol.artifact import build

        if source in ("first-price", "procurement"):
            if items != 1:
                raise UsageError(f"{source} sells one item, got --items {items}")
            artifact = build.first_price(
                bidders=bidders, bid_max=bid_max, share_bits=share_bits, unit=unit, procurement=source == "procurement"
            )
        else:
            price = {"vcg": 0, "myerson-uniform": -(-bid_max // 2)}.get(source, reserve)
            artifact = build.single_item_reserve(
                [price] * items, bidders=bidders, bid_max=bid_max, share_bits=share_bits, unit=unit
            )
    else:
        setting, mechanism, config = open_run(Path(source))
        try:
            artifact, measured = compiled(mechanism, setting, int(config["seed"]))
        except ValueError as error:
            raise UsageError(f"{source}: {config['method']} has no exact artifact: {error}") from error
    write_file(output, artifact.data)
    from protocol.artifact.card import write_card

    card = write_card(output, artifact, measured=measured)
    lines = [
        f"{output}: class {artifact.header.kind}, {len(artifact.data):,} bytes, float64 magnitudes below "
        f"2^{artifact.max_bits} proved, SHA-256 {artifact.file_sha256}",
        f"{card}: card",
    ]
    if "differential" in measured:
        lines.append(against_floats(measured["differential"]))
    result = {
        "file": str(output),
        "file_sha256": artifact.file_sha256,
        "card": str(card),
        "max_bits": artifact.max_bits,
        **measured,
    }
    show(result, lines, as_json=json)


def against_floats(differential: dict[str, Any]) -> str:
    """Return in words how an exact artifact compares with the float mechanism that it was made of."""
    return (
        f"against the floats, {differential['profiles']:,} profiles: revenue {differential['revenue_exact']:.5f} for "
        f"{differential['revenue_float']:.5f}, {differential['other_allocations']} other allocations, payments within "
        f"{differential['payment_difference']:.2g} where these agree"
    )


def compiled(mechanism: Mechanism, setting: Setting, seed: int) -> tuple[CheckedArtifact, dict[str, Any]]:
    """Return a mechanism's exact artifact on a setting's grid, and how it compares with the floats, for its card.

    Raises:
        ValueError: If the mechanism has no exact form.
    """
    from credible.records.values import valuation_model
    from mechanisms.export import differential_check, quantise
    from mechanisms.training.loop import step_generator

    grid = setting.grid_unit()
    artifact = quantise(mechanism, unit=grid.unit, bid_max=grid.bid_max, share_bits=grid.share_bits, name=grid.name)
    sample = valuation_model(setting, held_out=True).sample(20_000, step_generator(seed, 6, 0))
    checked = differential_check(mechanism, artifact, sample.numpy(), unit=grid.unit, seed=seed)
    return artifact, {"differential": asdict(checked), "setting": setting.name, "seed": seed}
