"""The numbers of a mechanism: integer arrays, and their digest apart from ONNX (design section 4)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from protocol.artifact.header import EXACT_LIMIT, Header
from protocol.encoding import canonical, pae
from protocol.errors import ArtifactRefusedError

Parameters = Mapping[str, npt.NDArray[np.int64]]


def mechanism_digest(header: Header, parameters: Parameters) -> str:
    """Return the digest of the mechanism, apart from ONNX: header and little-endian parameter arrays (design 4).

    Every part is length-prefixed: names and dimensions go into a canonical list, the arrays follow in its order.
    """
    names = sorted(parameters)
    listing = [{"dims": [int(size) for size in parameters[name].shape], "name": name} for name in names]
    digest = hashlib.sha256(pae("mechanism", {"header": canonical(header).decode("utf-8"), "parameters": listing}))
    for name in names:
        data = np.ascontiguousarray(parameters[name], dtype="<i8").tobytes()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def as_parameter(value: npt.ArrayLike, name: str) -> npt.NDArray[np.int64]:
    """Return an int64 array; raise ArtifactRefusedError if a value is no integer below 2^53 in magnitude."""
    array = np.asarray(value)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or (array != np.floor(array)).any():
            raise ArtifactRefusedError(f"parameter {name} holds a value that is no integer")
    elif array.dtype.kind not in "iu":
        raise ArtifactRefusedError(f"parameter {name} has type {array.dtype}, wanted integers")
    if array.size and (np.abs(array.astype(np.float64)) > EXACT_LIMIT).any():
        raise ArtifactRefusedError(f"parameter {name} holds a value above 2^53")
    return array.astype(np.int64)
