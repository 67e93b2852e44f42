"""What the registry knows of a mechanism class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from protocol.artifact.header import Header
from protocol.artifact.parameters import Parameters, as_parameter
from protocol.errors import ArtifactRefusedError


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
