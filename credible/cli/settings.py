"""credible settings."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table

from credible import settings as store
from credible.cli.common import Json, show


def settings(
    name: Annotated[str | None, typer.Argument(help="Setting, or a TOML file, to show.")] = None,
    json: Json = False,
) -> None:
    """List the named settings, or show one."""
    if name is not None:
        setting = store.load(name)
        table = msgspec.to_builtins(setting)
        show(table, [f"{key}: {value}" for key, value in table.items()], as_json=json)
        return
    listed = [store.load(entry) for entry in store.names()]
    rows = Table("setting", "bidders", "items", "about")
    for setting in listed:
        rows.add_row(setting.name, str(setting.bidders), str(setting.items), setting.about)
    show({"settings": [setting.name for setting in listed]}, rows, as_json=json)
