"""The header of an artifact: what a mechanism is, apart from its numbers (design section 4)."""

from __future__ import annotations

from typing import Final

from protocol.encoding import Message, canonical, decode

FORMAT: Final = "credible-artifact-v1"
OPSET: Final = 18
IR_VERSION: Final = 8
MAX_BYTES: Final = 16 * 1024 * 1024  # spec 12
EXACT_BITS: Final = 53
EXACT_LIMIT: Final = 1 << EXACT_BITS  # integers up to here are exact in float64

KEY_HEADER: Final = "credible.header"
KEY_MECHANISM: Final = "credible.mechanism_digest"
KEY_GRAPH: Final = "credible.graph_digest"


class Header(Message, frozen=True):
    """Canonical header; it travels in the file's metadata and is hashed with the parameters.

    Attributes:
        bid_max: Largest bid, in grid units; the graph clamps to 0..bid_max.
        bidders: Seats of the mechanism.
        context: Names of the public per-round integers it takes, in order.
        format: Version of this format.
        items: Items of the mechanism.
        kind: Name of its class in the registry.
        rounding: How payments are rounded: "floor" in fine units, or "exact" where nothing is rounded.
        share_bits: q: allocations count 2^-q of an item, payments 2^-q of a grid unit.
        ties: "lowest_index", "share_evenly", or "lowest_owner": item by item the lowest seat, nobody before all seats.
        unit: What one grid unit is, for people ("1 JPY", "1e-6 of value").
    """

    bid_max: int
    bidders: int
    context: list[str]
    format: str
    items: int
    kind: str
    rounding: str
    share_bits: int
    ties: str
    unit: str

    def __post_init__(self) -> None:
        bounds = (
            ("bid_max", self.bid_max, 1, 2**52),
            ("bidders", self.bidders, 1, 65_536),
            ("items", self.items, 1, 512),
            ("share_bits", self.share_bits, 0, 32),
        )
        for name, value, low, high in bounds:
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}, wanted {low} to {high}")
        if self.format != FORMAT:
            raise ValueError(f"format is {self.format!r}, wanted {FORMAT!r}")
        if len(self.context) > 16:
            raise ValueError(f"{len(self.context)} context values, at most 16")

    @property
    def unit_share(self) -> int:
        """A whole item in allocation units, 2^share_bits; also fine payment units per grid unit."""
        return 1 << self.share_bits

    def encode(self) -> str:
        """Return the canonical text of the header."""
        return canonical(self).decode("utf-8")

    @classmethod
    def decode(cls, text: str) -> Header:
        """Parse untrusted text; raise MalformedError unless `encode` would write it."""
        return decode(text.encode("utf-8", "surrogatepass"), cls)
