"""What the registry knows of a mechanism class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from protocol.artifact.graph import ALLOCATION, PAYMENT, Builder
from protocol.artifact.header import Header
from protocol.artifact.parameters import Parameters, as_parameter
from protocol.errors import ArtifactRefusedError


@dataclass(frozen=True, slots=True)
class Core:
    """Names of the tensors, int64 but the first, that a class's graph has before its outputs.

    Attributes:
        present: Participation, boolean of shape (batch, bidders, 1).
        bids: Clamped bids, absent rows zero, (batch, bidders, items).
        award: Shares, those of absent seats too, (batch, bidders, items).
        value: What the award is worth to each bidder, fine units, (batch, bidders).
        payment: Fine units, (batch, bidders).
    """

    present: str
    bids: str
    award: str
    value: str
    payment: str


def finish(b: Builder, core: Core) -> None:
    """Write the outputs of a class that adds nothing to its core; the payment has its final name already."""
    # what an absent seat was awarded stays unsold
    b.op("Where", core.present, core.award, b.scalar(0), name=ALLOCATION)
    b.output(ALLOCATION, b.header.bidders, b.header.items)
    b.output(PAYMENT, b.header.bidders)


@dataclass(frozen=True, slots=True)
class MechanismClass:
    """One class of mechanisms that artifacts may claim to be.

    Attributes:
        name: Name in the header's `kind`.
        schema: Parameter shapes by name, from the header; -1 stands for the free menu size.
        build: The canonical graph, a pure function of header and parameters.
        check: Exact checks of header and parameters; returns what fails, in words.
        theorem: What a certificate of this class rests on; None if truthfulness is not claimed.
        laws: Names of the laws that the tests run on every artifact of the class.
    """

    name: str
    schema: Callable[[Header], dict[str, tuple[int, ...]]]
    build: Callable[[Header, Parameters], onnx.ModelProto]
    check: Callable[[Header, Parameters], list[str]]
    theorem: str | None
    laws: tuple[str, ...]

    def read(self, header: Header, initializers: dict[str, npt.NDArray[np.generic]]) -> Parameters:
        """Return the parameters from a graph's initializers.

        Raises:
            ArtifactRefusedError: If one is missing, has another shape, or holds a value that is no integer below 2^53.
        """
        parameters: dict[str, npt.NDArray[np.int64]] = {}
        for name, shape in self.schema(header).items():
            if name not in initializers:
                raise ArtifactRefusedError(f"class {self.name} wants a parameter {name}, the file has none")
            value = as_parameter(initializers[name], name)
            if len(value.shape) != len(shape) or any(
                want not in (-1, got) for want, got in zip(shape, value.shape, strict=True)
            ):
                raise ArtifactRefusedError(f"parameter {name} has shape {value.shape}, wanted {shape}")
            parameters[name] = value
        return parameters
