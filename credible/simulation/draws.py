"""Pseudo-random numbers that depend on who asks, the round and the lane alone: the same one by one or all at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from protocol.encoding import pae
from protocol.keys import derive

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_BLOCK = 4  # numbers that one step of the counter gives


class Draws:
    """Uniform numbers by round and lane: a lane is one market of many that run side by side.

    A counter-based generator (Philox) is set to where a lane's numbers begin, so that lane 7 alone sees what it sees
    among thousands. They decide what agents and coins of a simulation do; the protocol's own coins come from hashes.

    Args:
        secret: 32 bytes.
        purpose: Who asks: other purposes give independent numbers.
        first: Number of the first lane.
        lanes: Number of lanes.
    """

    def __init__(self, secret: bytes, purpose: str, first: int, lanes: int) -> None:
        if first < 0 or lanes < 1:
            raise ValueError(f"first lane {first} of {lanes}, wanted at least 0 and at least 1")
        self._secret, self._purpose = secret, purpose
        self._key = int.from_bytes(derive(secret, pae("draws", {"purpose": purpose}))[:16], "big")
        self.first, self.lanes = first, lanes

    def uniform(self, round_index: int, columns: int) -> Floats:
        """Return numbers in [0, 1), shape (lanes, columns), of 53 bits each."""
        width = -(-columns // _BLOCK) * _BLOCK
        start = round_index << 64 | self.first * width // _BLOCK
        source = np.random.Generator(np.random.Philox(key=self._key, counter=start))
        return source.random((self.lanes, width))[:, :columns]

    def below(self, round_index: int, bound: int, columns: int) -> Counts:
        """Return integers in 0..bound - 1, shape (lanes, columns); the bound is at most 2^53."""
        return (self.uniform(round_index, columns) * bound).astype(np.int64)

    def other(self, purpose: str) -> Draws:
        """Return independent numbers for another purpose of the same asker."""
        return Draws(self._secret, f"{self._purpose}/{purpose}", self.first, self.lanes)
