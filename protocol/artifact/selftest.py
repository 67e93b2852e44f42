"""Start-up self-test of the installed runtime: single-operator vectors with known answers (hardening 2.10).

Each operator of the profile runs alone on values at the edges of the exact range; the answers stand here as literals or
follow from Python integers. Defects of released runtimes (int64 comparisons by their high halves, sums through float64)
were all caught by vectors of this kind.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from protocol.artifact.header import IR_VERSION, OPSET
from protocol.errors import ArtifactRefusedError

_E: Final = 2**53
_N: Final = 2**62 + 12_345
_A: Final = [_N, _N - 1, -_N, 2**33 + 5, 2**33 + 2**31 + 5, 0]
_B: Final = [_N - 1, _N, -_N + 1, 2**33 + 2**31 + 5, 2**33 + 5, -1]
_X: Final = [_E, _E - 1, -_E, 3, -7, 0]
_Y: Final = [_E - 1, _E, 1 - _E, -3, 7, 0]
_MATRIX: Final = [[2**20 - 1, -(2**20)], [3, 2**21 - 1], [-(2**19), 2**20 + 1]]
_ROWS: Final = [[2**30 + 1, -(2**30), 2**29 - 1], [1, 2, 3]]


def _product(rows: list[list[int]], matrix: list[list[int]]) -> list[list[int]]:
    return [
        [sum(a * b for a, b in zip(row, column, strict=True)) for column in zip(*matrix, strict=True)] for row in rows
    ]


# (operator, attributes, inputs as (type, values), expected type, expected values)
VECTORS: Final[list[tuple[str, dict[str, int], list[tuple[str, Any]], str, Any]]] = [
    ("Less", {}, [("i", _A), ("i", _B)], "b", [a < b for a, b in zip(_A, _B, strict=True)]),
    ("Greater", {}, [("i", _A), ("i", _B)], "b", [a > b for a, b in zip(_A, _B, strict=True)]),
    ("Equal", {}, [("i", _A), ("i", [*_A[:3], 1, 2, 0])], "b", [True, True, True, False, False, True]),
    ("Equal", {}, [("f", _X), ("f", [_E, _E, -_E, 3, 7, 0])], "b", [True, False, True, True, False, True]),
    ("Where", {}, [("b", [True, False] * 3), ("i", _A), ("i", _B)], "i", [_A[0], _B[1], _A[2], _B[3], _A[4], _B[5]]),
    ("Where", {}, [("b", [True, False] * 3), ("f", _X), ("f", _Y)], "f", [_X[0], _Y[1], _X[2], _Y[3], _X[4], _Y[5]]),
    ("Add", {}, [("i", _A[1:]), ("i", [1, 2, 3, 4, 5])], "i", [_N, 2 - _N, 2**33 + 8, 2**33 + 2**31 + 9, 5]),
    ("Add", {}, [("f", [_E - 1, -_E, 5]), ("f", [1, 1, -7])], "f", [_E, 1 - _E, -2]),
    ("Sub", {}, [("i", _A), ("i", _B)], "i", [a - b for a, b in zip(_A, _B, strict=True)]),
    ("Sub", {}, [("f", [_E - 1, -_E, 5]), ("f", [-1, -1, 7])], "f", [_E, 1 - _E, -2]),
    (
        "Mul",
        {},
        [("i", [2**31 - 1, -(2**31), 3037000499]), ("i", [2**31 - 1, 2**31, 3037000499])],
        "i",
        [(2**31 - 1) ** 2, -(2**62), 3037000499**2],
    ),
    (
        "Mul",
        {},
        [("f", [2**26 + 1, -(2**26), 94906265]), ("f", [2**26 - 1, 2**27, 94906265])],
        "f",
        [2**52 - 1, -_E, 94906265**2],
    ),
    ("Div", {}, [("i", [_N, 7, -7, _E + 1, 0]), ("i", [3, 2, 2, 7, 5])], "i", [_N // 3, 3, -3, (_E + 1) // 7, 0]),
    ("MatMul", {}, [("i", _ROWS), ("i", _MATRIX)], "i", _product(_ROWS, _MATRIX)),
    ("MatMul", {}, [("f", _ROWS), ("f", _MATRIX)], "f", _product(_ROWS, _MATRIX)),
    (
        "ArgMax",
        {"axis": 1, "keepdims": 0, "select_last_index": 0},
        [("f", [[1, _E, _E], [5, 5, 5], [-_E, 1 - _E, -_E]])],
        "i",
        [1, 0, 1],
    ),
    (
        "ReduceMax",
        {"keepdims": 1, "noop_with_empty_axes": 0},
        [("f", [[_E - 1, _E, 3], [-_E, 1 - _E, -_E]]), ("i", [1])],
        "f",
        [[_E], [1 - _E]],
    ),
    (
        "ReduceSum",
        {"keepdims": 1, "noop_with_empty_axes": 0},
        [("f", [[2**52, 2**52 - 3, 1], [-_E, _E, -1]]), ("i", [1])],
        "f",
        [[_E - 2], [-1]],
    ),
    ("Cast", {"to": TensorProto.DOUBLE}, [("i", [_E, -_E, _E - 1, 0])], "f", [_E, -_E, _E - 1, 0]),
    ("Cast", {"to": TensorProto.INT64}, [("f", [_E, -_E, _E - 1, 0])], "i", [_E, -_E, _E - 1, 0]),
    ("Cast", {"to": TensorProto.DOUBLE}, [("b", [True, False])], "f", [1, 0]),
    ("Gather", {"axis": 0}, [("i", [[_N, 1], [2, -_N], [5, 6]]), ("i", [2, 0])], "i", [[5, 6], [_N, 1]]),
    ("Gather", {"axis": 1}, [("f", [[_E, 1], [2, -_E]]), ("i", [1])], "f", [[1], [-_E]]),
    ("Concat", {"axis": 1}, [("f", [[_E], [2]]), ("f", [[3], [-_E]])], "f", [[_E, 3], [2, -_E]]),
    ("Unsqueeze", {}, [("i", [_N, 2]), ("i", [1])], "i", [[_N], [2]]),
    ("Squeeze", {}, [("i", [[_N], [2]]), ("i", [1])], "i", [_N, 2]),
]

_NUMPY: Final[dict[str, type[np.generic]]] = {"i": np.int64, "f": np.float64, "b": np.bool_}
_ONNX: Final = {"i": TensorProto.INT64, "f": TensorProto.DOUBLE, "b": TensorProto.BOOL}
_passed: list[str] = []  # once per process


def session_options() -> onnxruntime.SessionOptions:
    """Return the pinned options: one thread, sequential, no graph optimisation (hardening 2.12)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return options


def run_vector(index: int) -> npt.NDArray[np.generic]:
    """Run one vector through the installed runtime and return its answer."""
    kind, attributes, inputs, result, _ = VECTORS[index]
    arrays = {f"x{i}": np.array(values, dtype=_NUMPY[dtype]) for i, (dtype, values) in enumerate(inputs)}
    node = helper.make_node(kind, list(arrays), ["y"], name="n", **dict[str, Any](attributes))
    infos = [
        helper.make_tensor_value_info(name, _ONNX[dtype], array.shape)
        for (name, array), (dtype, _) in zip(arrays.items(), inputs, strict=True)
    ]
    graph = helper.make_graph([node], "vector", infos, [helper.make_tensor_value_info("y", _ONNX[result], None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
    )
    answer: npt.NDArray[np.generic] = session.run(["y"], arrays)[0]
    return answer


def run() -> None:
    """Run all vectors, once per process; raise ArtifactRefusedError if the runtime gives one other bit."""
    if _passed:
        return
    for index, (kind, _, _, result, expected) in enumerate(VECTORS):
        answer = run_vector(index)
        if answer.dtype != _NUMPY[result] or answer.tolist() != np.array(expected, dtype=_NUMPY[result]).tolist():
            raise ArtifactRefusedError(
                f"self-test: onnxruntime {onnxruntime.__version__} computes {kind} wrongly (vector {index}); "
                "nothing is executed (hardening 2.10)"
            )
    _passed.append(onnx.__version__)
