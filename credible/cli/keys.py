"""credible keys."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from credible.cli.common import Json, UsageError, show
from protocol.errors import MalformedError
from protocol.keys import COSIGNATURE, ED25519, SigningKey, read_key_file, write_key_file


def keys(
    file: Annotated[Path, typer.Argument(help="Key file: PKCS#8 PEM under a passphrase.")],
    name: Annotated[str, typer.Option(help="Name of the key; for a log, its origin.")],
    new: Annotated[bool, typer.Option("--new", help="Make a new key; an existing file is never overwritten.")] = False,
    witness: Annotated[bool, typer.Option("--witness", help="The key cosigns checkpoints (type 0x04).")] = False,
    json: Json = False,
) -> None:
    """Make a signing key, or show the public key and identity of one; the passphrase is asked for."""
    kind = COSIGNATURE if witness else ED25519
    passphrase = typer.prompt("passphrase", hide_input=True, confirmation_prompt=new, err=True).encode("utf-8")
    try:
        if new:
            key = SigningKey(name, secrets.token_bytes(32), kind)
            write_key_file(file, key, passphrase)
        else:
            key = read_key_file(file, name, passphrase, kind)
    except FileExistsError as error:
        raise UsageError(f"{file} exists and is not overwritten") from error
    except FileNotFoundError as error:
        raise MalformedError(f"{file}: no such file") from error
    vkey = str(key.verifier)
    show({"vkey": vkey, "party": key.party}, [f"vkey  {vkey}", f"party {key.party}"], as_json=json)
