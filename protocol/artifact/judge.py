"""The judge: a pure-Python evaluator of artifacts in unbounded integers (spec 7.6).

It shares no code with the export, the canonical graphs or onnxruntime: plain lists and integers, one operator at a
time, written from the operator's definition. A conviction on re-execution stands only if the judge confirms it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import onnx
from onnx import TensorProto, numpy_helper


@dataclass(frozen=True, slots=True)
class _Tensor:
    dims: tuple[int, ...]
    flat: list[int]

    def at(self, index: Sequence[int]) -> int:
        """Read with broadcasting: missing leading dimensions and dimensions of size 1 repeat."""
        position = 0
        for size, where in zip(self.dims, index[len(index) - len(self.dims) :], strict=True):
            position = position * size + (where if size != 1 else 0)
        return self.flat[position]


def evaluate(model: onnx.ModelProto, inputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Run one batch of rounds through a checked model.

    Args:
        model: A model that passed the static checks.
        inputs: Nested lists of integers by input name; the first dimension is the batch.

    Returns:
        Nested lists of integers by output name.
    """
    values: dict[str, _Tensor] = {name: _from_nested(value) for name, value in inputs.items()}
    for initializer in model.graph.initializer:
        array = numpy_helper.to_array(initializer)
        values[initializer.name] = _Tensor(array.shape, [int(item) for item in array.ravel().tolist()])
    for node in model.graph.node:
        attributes = {item.name: item.i for item in node.attribute}
        values[node.output[0]] = _OPERATORS[node.op_type]([values[name] for name in node.input], attributes)
    return {output.name: _to_nested(values[output.name]) for output in model.graph.output}


def _from_nested(value: list[Any]) -> _Tensor:
    dims: list[int] = []
    level: Any = value
    while isinstance(level, list):
        dims.append(len(level))
        level = level[0] if level else None
    flat: list[Any] = value
    for _ in dims[1:]:
        flat = [item for part in flat for item in part]
    return _Tensor(tuple(dims), flat)


def _to_nested(tensor: _Tensor) -> list[Any]:
    flat: list[Any] = tensor.flat
    for size in reversed(tensor.dims[1:]):
        flat = [flat[start : start + size] for start in range(0, len(flat), size)]
    return flat


def _indices(dims: tuple[int, ...]) -> product[tuple[int, ...]]:
    return product(*(range(size) for size in dims))


def _joint_dims(tensors: list[_Tensor]) -> tuple[int, ...]:
    rank = max(len(tensor.dims) for tensor in tensors)
    padded = [(1,) * (rank - len(tensor.dims)) + tensor.dims for tensor in tensors]
    return tuple(max(sizes) if min(sizes) else 0 for sizes in zip(*padded, strict=True))


def _elementwise(function: Callable[..., int]) -> Callable[[list[_Tensor], dict[str, int]], _Tensor]:
    def operator(arguments: list[_Tensor], attributes: dict[str, int]) -> _Tensor:
        dims = _joint_dims(arguments)
        if all(argument.dims == dims for argument in arguments):
            return _Tensor(dims, [function(*items) for items in zip(*(a.flat for a in arguments), strict=True)])
        return _Tensor(dims, [function(*(argument.at(index) for argument in arguments)) for index in _indices(dims)])

    return operator


def _divide(x: int, y: int) -> int:
    quotient = abs(x) // abs(y)  # toward zero, as the operator is defined
    return quotient if (x < 0) == (y < 0) else -quotient


def _cast(arguments: list[_Tensor], attributes: dict[str, int]) -> _Tensor:
    if attributes["to"] not in (TensorProto.INT64, TensorProto.DOUBLE):
        raise ValueError(f"cast to {attributes['to']} is not in the profile")
    return arguments[0]


def _matmul(arguments: list[_Tensor], attributes: dict[str, int]) -> _Tensor:
    left, right = arguments
    inner, columns = right.dims
    column_values = [right.flat[column::columns] for column in range(columns)]
    flat: list[int] = []
    for start in range(0, len(left.flat), inner):
        row = left.flat[start : start + inner]
        flat.extend(sum(a * b for a, b in zip(row, column, strict=True)) for column in column_values)
    return _Tensor((*left.dims[:-1], columns), flat)


def _lines(tensor: _Tensor, axis: int) -> list[list[int]]:
    """Return the values along one axis, for every index of the other axes in row-major order."""
    size = tensor.dims[axis]
    inner = prod(tensor.dims[axis + 1 :])
    block = size * inner
    return [
        tensor.flat[start + offset : start + block : inner]
        for start in range(0, len(tensor.flat), block)
        for offset in range(inner)
    ]


def _argmax(arguments: list[_Tensor], attributes: dict[str, int]) -> _Tensor:
    axis = attributes["axis"]
    dims = arguments[0].dims
    return _Tensor(dims[:axis] + dims[axis + 1 :], [line.index(max(line)) for line in _lines(arguments[0], axis)])


def _reduce(function: Callable[[list[int]], int]) -> Callable[[list[_Tensor], dict[str, int]], _Tensor]:
    def operator(arguments: list[_Tensor], attributes: dict[str, int]) -> _Tensor:
        result = arguments[0]
        for axis in arguments[1].flat:
            dims = tuple(1 if position == axis else size for position, size in enumerate(result.dims))
            result = _Tensor(dims, [function(line) for line in _lines(result, axis)])
        return result

    return operator


def _gather(arguments: list[_Tensor], attributes: dict[str, int]) -> _Tensor:
    data, indices = arguments
    axis = attributes["axis"]
    before, after = data.dims[:axis], data.dims[axis + 1 :]
    inner, size = prod(after), data.dims[axis]
    flat: list[int] = []
    for block in range(prod(before)):
        for index in indices.flat:
            start = (block * size + index) * inner
            flat.extend(data.flat[start : start + inner])
    return _Tensor(before + indices.dims + after, flat)


def _concat(arguments: list[_Tensor], attributes: dict[str, int]) -> _Tensor:
    axis = attributes["axis"]
    dims = arguments[0].dims
    flat: list[int] = []
    for block in range(prod(dims[:axis])):
        for argument in arguments:
            length = prod(argument.dims[axis:])
            flat.extend(argument.flat[block * length : (block + 1) * length])
    return _Tensor((*dims[:axis], sum(argument.dims[axis] for argument in arguments), *dims[axis + 1 :]), flat)


def _unsqueeze(arguments: list[_Tensor], attributes: dict[str, int]) -> _Tensor:
    axes = set(arguments[1].flat)
    sizes = iter(arguments[0].dims)
    rank = len(arguments[0].dims) + len(axes)
    return _Tensor(tuple(1 if axis in axes else next(sizes) for axis in range(rank)), arguments[0].flat)


def _squeeze(arguments: list[_Tensor], attributes: dict[str, int]) -> _Tensor:
    axes = set(arguments[1].flat)
    dims = tuple(size for axis, size in enumerate(arguments[0].dims) if axis not in axes)
    return _Tensor(dims, arguments[0].flat)


_OPERATORS: dict[str, Callable[[list[_Tensor], dict[str, int]], _Tensor]] = {
    "Add": _elementwise(lambda x, y: x + y),
    "Sub": _elementwise(lambda x, y: x - y),
    "Mul": _elementwise(lambda x, y: x * y),
    "Div": _elementwise(_divide),
    "Less": _elementwise(lambda x, y: int(x < y)),
    "Greater": _elementwise(lambda x, y: int(x > y)),
    "Equal": _elementwise(lambda x, y: int(x == y)),
    "Where": _elementwise(lambda c, x, y: x if c else y),
    "Cast": _cast,
    "MatMul": _matmul,
    "ArgMax": _argmax,
    "ReduceMax": _reduce(max),
    "ReduceSum": _reduce(sum),
    "Gather": _gather,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
}
