"""Static proof, by intervals, that a graph stays exact for every int64 input (design section 4, hardening 2.6, 2.9).

For every tensor: type, shape and the least and greatest value it can take, in unbounded integers. Proved for the whole
graph: no float64 and no sum of absolute terms above 2^53, no int64 overflow, every divisor at least 1, every cast and
every index in range, and that rounds of a batch never meet. What cannot be proved is refused, by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from protocol.artifact.header import EXACT_LIMIT
from protocol.errors import ArtifactRefusedError

INT64: Final = "int64"
DOUBLE: Final = "double"
BOOL: Final = "bool"
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
MAX_RANK: Final = 8
MAX_ELEMENTS: Final = 1 << 21  # of all intermediates together, for one round: what the judge does in seconds
MAX_MULTIPLY_ADDS: Final = 1 << 24  # for one round

_CASTS: Final = {TensorProto.INT64: INT64, TensorProto.DOUBLE: DOUBLE, TensorProto.BOOL: BOOL}
Dims = tuple[int | None, ...]  # None stands for the batch, in front only


@dataclass(frozen=True, slots=True)
class Range:
    """What is known of a tensor: type, shape, least and greatest value, the value itself if constant."""

    dtype: str
    dims: Dims
    low: int
    high: int
    constant: npt.NDArray[np.generic] | None = None
    made_by: tuple[str, tuple[str, ...]] | None = None  # for the clamp pattern of Where

    @property
    def magnitude(self) -> int:
        """Greatest absolute value."""
        return max(abs(self.low), abs(self.high))


class _RefusalError(Exception):
    pass


def constant_range(array: npt.NDArray[np.generic]) -> Range:
    """Return the range of an initializer."""
    dtype = {"i": INT64, "f": DOUBLE, "b": BOOL}[array.dtype.kind]
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    return Range(dtype, array.shape, low, high, constant=array)


class Prover:
    """Walks a graph in order; `ranges` holds what is proved so far, `largest` the greatest float64 magnitude."""

    def __init__(self, inputs: dict[str, Range]) -> None:
        self.ranges = dict(inputs)
        self.largest = 0
        self.elements = 0
        self._multiply_adds = 0

    def visit(self, node: onnx.NodeProto) -> None:
        """Prove one node; raise ArtifactRefusedError if its output may leave the exact range."""
        rule = _RULES.get(node.op_type)
        if rule is None:
            raise ArtifactRefusedError(f"operator {node.op_type} is not in the exact profile")
        attributes = {item.name: int(item.i) for item in node.attribute}
        arguments = [self.ranges[name] for name in node.input]
        try:
            result = rule(self, arguments, attributes, tuple(node.input))
            self._bound(result)
        except (_RefusalError, ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            # the last five: shapes and attributes that no rule foresees, an empty matrix say, are refused as well
            raise ArtifactRefusedError(f"node {node.name} ({node.op_type}): {error}") from error
        self.ranges[node.output[0]] = Range(
            result.dtype, result.dims, result.low, result.high, None, (node.op_type, tuple(node.input))
        )

    def _bound(self, result: Range) -> None:
        size = 1
        if len(result.dims) > MAX_RANK or any(dimension is not None and dimension < 1 for dimension in result.dims):
            raise _RefusalError(f"shape {result.dims}: wanted at most {MAX_RANK} dimensions, none empty")
        for dimension in result.dims:
            size *= 1 if dimension is None else dimension
        self.elements += size
        if self.elements > MAX_ELEMENTS:
            raise _RefusalError(f"more than {MAX_ELEMENTS} intermediate elements a round")
        if result.dtype == DOUBLE:
            self.exact(result.magnitude)
        elif result.dtype == INT64 and not (result.low >= INT64_MIN and result.high <= INT64_MAX):
            raise _RefusalError(f"int64 may overflow: {result.low} to {result.high}")

    def exact(self, magnitude: int) -> None:
        """Note a float64 magnitude; refuse it above 2^53."""
        self.largest = max(self.largest, magnitude)
        if magnitude > EXACT_LIMIT:
            raise _RefusalError(f"a float64 may reach 2^{magnitude.bit_length()}, exact only to 2^53")

    def work(self, multiply_adds: int) -> None:
        """Count multiply-adds of one round."""
        self._multiply_adds += multiply_adds
        if self._multiply_adds > MAX_MULTIPLY_ADDS:
            raise _RefusalError(f"more than {MAX_MULTIPLY_ADDS} multiply-adds a round")


def _need(condition: bool, text: str) -> None:
    if not condition:
        raise _RefusalError(text)


def _broadcast(*shapes: Dims) -> Dims:
    rank = max(len(shape) for shape in shapes)
    result: list[int | None] = []
    for position in range(rank):
        sizes = {shape[position - rank] for shape in shapes if len(shape) >= rank - position}
        if None in sizes:
            _need(sizes <= {None, 1}, f"the batch meets another dimension: {shapes}")
            result.append(None)
        else:
            known = {size for size in sizes if size is not None}
            _need(min(known) >= 1, f"an empty dimension: {shapes}")
            _need(len(known - {1}) <= 1, f"shapes do not broadcast: {shapes}")
            result.append(max(known))
    _need(None not in result[1:], f"the batch is not in front: {shapes}")
    return tuple(result)


def _same_type(arguments: list[Range], *allowed: str) -> str:
    kinds = {argument.dtype for argument in arguments}
    _need(len(kinds) == 1 and kinds <= set(allowed), f"types {sorted(kinds)}, wanted one of {allowed}")
    return arguments[0].dtype


def _axes(argument: Range, rank: int) -> list[int]:
    _need(
        argument.constant is not None and argument.dtype == INT64 and len(argument.dims) == 1, "axes must be constant"
    )
    axes = [int(axis) for axis in np.asarray(argument.constant)]
    _need(0 < len(axes) <= MAX_RANK, f"{len(axes)} axes: with none the runtime would drop the batch of one round")
    _need(all(0 <= axis < rank for axis in axes) and len(set(axes)) == len(axes), f"axes {axes} for rank {rank}")
    return axes


def _arithmetic(combine: Callable[[Range, Range], list[int]]) -> Callable[..., Range]:
    def rule(prover: Prover, a: list[Range], attributes: dict[str, int], names: tuple[str, ...]) -> Range:
        dtype = _same_type(a, INT64, DOUBLE)
        corners = combine(a[0], a[1])
        return Range(dtype, _broadcast(a[0].dims, a[1].dims), min(corners), max(corners))

    return rule


def _divide(prover: Prover, a: list[Range], attributes: dict[str, int], names: tuple[str, ...]) -> Range:
    _same_type(a, INT64)
    _need(a[1].low >= 1, f"divisor may be {a[1].low}, wanted at least 1")
    corners = [_truncate(x, y) for x in (a[0].low, a[0].high) for y in (a[1].low, a[1].high)]
    return Range(INT64, _broadcast(a[0].dims, a[1].dims), min(corners), max(corners))


def _truncate(x: int, y: int) -> int:
    return abs(x) // y if x >= 0 else -(abs(x) // y)


def _compare(prover: Prover, a: list[Range], attributes: dict[str, int], names: tuple[str, ...]) -> Range:
    _same_type(a, INT64, DOUBLE)
    return Range(BOOL, _broadcast(a[0].dims, a[1].dims), 0, 1)


def _where(prover: Prover, a: list[Range], attributes: dict[str, int], names: tuple[str, ...]) -> Range:
    condition, yes, no = a
    _need(condition.dtype == BOOL, "the condition is no boolean")
    dtype = _same_type([yes, no], INT64, DOUBLE)
    low = {names[1]: yes.low, names[2]: no.low}
    high = {names[1]: yes.high, names[2]: no.high}
    if condition.made_by is not None and names[1] != names[2] and condition.made_by[0] in ("Less", "Greater"):
        kind, (left, right) = condition.made_by
        bound = prover.ranges[right]
        less = kind == "Less"
        if left == names[2]:  # taken where the comparison fails
            if less:
                low[left] = max(low[left], bound.low)
            else:
                high[left] = min(high[left], bound.high)
        elif left == names[1]:  # taken where it holds
            if less:
                high[left] = min(high[left], bound.high - 1)
            else:
                low[left] = max(low[left], bound.low + 1)
    # a branch whose refined interval is empty is never taken; only one of the two is refined, so one is left
    parts = [(low[name], high[name]) for name in names[1:] if low[name] <= high[name]]
    dims = _broadcast(condition.dims, yes.dims, no.dims)
    return Range(dtype, dims, min(part[0] for part in parts), max(part[1] for part in parts))


def _cast(prover: Prover, a: list[Range], attributes: dict[str, int], names: tuple[str, ...]) -> Range:
    target = {int(kind): name for kind, name in _CASTS.items()}.get(attributes.get("to", -1))
    _need(target is not None and target != a[0].dtype and target != BOOL, f"cast to type {attributes.get('to')}")
    if a[0].dtype != BOOL:
        prover.exact(a[0].magnitude)
    return Range(str(target), a[0].dims, a[0].low, a[0].high)


def _matmul(prover: Prover, a: list[Range], attributes: dict[str, int], names: tuple[str, ...]) -> Range:
    dtype = _same_type(a, INT64, DOUBLE)
    left, matrix = a[0], a[1].constant
    if matrix is None:
        raise _RefusalError("the right factor must be constant")
    _need(matrix.ndim == 2 and len(left.dims) >= 2 and left.dims[-1] == matrix.shape[0], "shapes do not multiply")
    rows = 1
    for dimension in left.dims[:-1]:
        rows *= 1 if dimension is None else dimension
    prover.work(rows * matrix.size)
    exact = matrix.astype(np.int64).astype(object)
    positive = np.maximum(exact, 0).sum(axis=0)
    negative = np.minimum(exact, 0).sum(axis=0)
    low = int((positive * left.low + negative * left.high).min())
    high = int((positive * left.high + negative * left.low).max())
    terms = int((positive - negative).max()) * left.magnitude
    if dtype == DOUBLE:
        prover.exact(terms)  # every partial sum in every order is then exact
    else:
        _need(terms <= INT64_MAX, f"int64 sums may reach {terms}")
    return Range(dtype, (*left.dims[:-1], matrix.shape[1]), low, high)


def _argmax(prover: Prover, a: list[Range], attributes: dict[str, int], names: tuple[str, ...]) -> Range:
    _same_type(a, DOUBLE)
    axis = attributes["axis"]
    _need(1 <= axis < len(a[0].dims) and attributes["keepdims"] == 0, "axis and keepdims")
    _need(attributes["select_last_index"] == 0, "ties must go to the lowest index")
    size = a[0].dims[axis]
    _need(size is not None and size >= 1, "empty axis")
    return Range(INT64, a[0].dims[:axis] + a[0].dims[axis + 1 :], 0, int(size or 1) - 1)


def _reduce(
    prover: Prover, a: list[Range], attributes: dict[str, int], names: tuple[str, ...], *, total: bool
) -> Range:
    _same_type(a[:1], DOUBLE)  # the int64 forms are wrong in released runtimes
    axes = _axes(a[1], len(a[0].dims))
    _need(bool(axes) and 0 not in axes, f"axes {axes}: the batch is never reduced")
    _need(attributes["keepdims"] == 1 and attributes["noop_with_empty_axes"] == 0, "keepdims")
    count = 1
    for axis in axes:
        count *= a[0].dims[axis] or 0
    _need(count >= 1, "empty axis")
    dims = tuple(1 if axis in axes else size for axis, size in enumerate(a[0].dims))
    factor = count if total else 1
    if total:
        prover.exact(count * a[0].magnitude)
    return Range(DOUBLE, dims, a[0].low * factor, a[0].high * factor)


def _reduce_max(prover: Prover, a: list[Range], attributes: dict[str, int], names: tuple[str, ...]) -> Range:
    return _reduce(prover, a, attributes, names, total=False)


def _reduce_sum(prover: Prover, a: list[Range], attributes: dict[str, int], names: tuple[str, ...]) -> Range:
    return _reduce(prover, a, attributes, names, total=True)


def _gather(prover: Prover, a: list[Range], attributes: dict[str, int], names: tuple[str, ...]) -> Range:
    data, indices = a
    axis = attributes["axis"]
    _need(indices.dtype == INT64 and 0 <= axis < len(data.dims), "indices and axis")
    size = data.dims[axis]
    _need(size is not None, "the batch is never indexed")
    _need(indices.low >= 0 and indices.high < (size or 0), f"index {indices.low} to {indices.high} of {size}")
    dims = data.dims[:axis] + indices.dims + data.dims[axis + 1 :]
    _need(None not in dims[1:], "the batch is not in front")
    return Range(data.dtype, dims, data.low, data.high)


def _concat(prover: Prover, a: list[Range], attributes: dict[str, int], names: tuple[str, ...]) -> Range:
    dtype = _same_type(a, INT64, DOUBLE)
    axis = attributes["axis"]
    _need(1 <= axis < len(a[0].dims), f"axis {axis}: the batch is never joined")
    rest = {argument.dims[:axis] + argument.dims[axis + 1 :] for argument in a}
    _need(len(rest) == 1 and len({len(argument.dims) for argument in a}) == 1, "shapes do not join")
    dims = (*a[0].dims[:axis], sum(argument.dims[axis] or 0 for argument in a), *a[0].dims[axis + 1 :])
    return Range(dtype, dims, min(argument.low for argument in a), max(argument.high for argument in a))


def _unsqueeze(prover: Prover, a: list[Range], attributes: dict[str, int], names: tuple[str, ...]) -> Range:
    axes = _axes(a[1], len(a[0].dims) + len(a[1].constant if a[1].constant is not None else ()))
    rest = list(a[0].dims)
    dims: list[int | None] = []
    for position in range(len(rest) + len(axes)):
        dims.append(1 if position in axes else rest.pop(0))
    _need(None not in dims[1:], "the batch is not in front")
    return Range(a[0].dtype, tuple(dims), a[0].low, a[0].high)


def _squeeze(prover: Prover, a: list[Range], attributes: dict[str, int], names: tuple[str, ...]) -> Range:
    axes = _axes(a[1], len(a[0].dims))
    _need(all(a[0].dims[axis] == 1 for axis in axes), f"axes {axes} of shape {a[0].dims}")
    return Range(
        a[0].dtype, tuple(size for axis, size in enumerate(a[0].dims) if axis not in axes), a[0].low, a[0].high
    )


_RULES: Final[dict[str, Callable[..., Range]]] = {
    "Add": _arithmetic(lambda x, y: [x.low + y.low, x.high + y.high]),
    "Sub": _arithmetic(lambda x, y: [x.low - y.high, x.high - y.low]),
    "Mul": _arithmetic(lambda x, y: [p * q for p in (x.low, x.high) for q in (y.low, y.high)]),
    "Div": _divide,
    "Less": _compare,
    "Greater": _compare,
    "Equal": _compare,
    "Where": _where,
    "Cast": _cast,
    "MatMul": _matmul,
    "ArgMax": _argmax,
    "ReduceMax": _reduce_max,
    "ReduceSum": _reduce_sum,
    "Gather": _gather,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
}
OPERATORS: Final = frozenset(_RULES)
