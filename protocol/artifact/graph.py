"""Building graphs in the exact profile, and the canonical walk that identifies one (design section 4)."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from protocol.artifact.header import IR_VERSION, KEY_GRAPH, KEY_HEADER, KEY_MECHANISM, OPSET, Header
from protocol.artifact.parameters import Parameters, mechanism_digest

BATCH: Final = "batch"
BIDS: Final = "bids"
PARTICIPATION: Final = "participation"
CONTEXT: Final = "context"
ALLOCATION: Final = "allocation"
PAYMENT: Final = "payment"
CHOICE: Final = "choice"

_TYPES: Final = {"int64": TensorProto.INT64, "double": TensorProto.DOUBLE, "bool": TensorProto.BOOL}


class Builder:
    """Writes one graph: unique names, `onnx.helper` only, tensors as raw bytes."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._outputs: list[onnx.ValueInfoProto] = []

    def constant(self, name: str, value: npt.ArrayLike, dtype: type[np.generic] = np.int64) -> str:
        """Add an initializer once and return its name."""
        tensor = numpy_helper.from_array(np.asarray(value, dtype=dtype, order="C"), name)
        if name in self._initializers and self._initializers[name] != tensor:
            raise ValueError(f"initializer {name} is written twice with other values")
        self._initializers[name] = tensor
        return name

    def op(self, kind: str, *inputs: str, to: str | None = None, axis: int | None = None, name: str = "") -> str:
        """Add a node and return the name of its output; ArgMax keeps no dimension and takes the lowest index."""
        output = name or f"t{len(self._nodes)}"
        attributes: dict[str, Any] = {}
        if to is not None:
            attributes["to"] = _TYPES[to]
        if axis is not None:
            attributes["axis"] = axis
        if kind == "ArgMax":
            attributes.update(keepdims=0, select_last_index=0)
        if kind in ("ReduceMax", "ReduceSum"):
            attributes.update(keepdims=1, noop_with_empty_axes=0)
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=f"n{len(self._nodes)}", **attributes))
        return output

    def index(self, *values: int) -> str:
        """Return a small one-dimensional int64 constant."""
        return self.constant("i_" + "_".join(str(value).replace("-", "m") for value in values), list(values))

    def scalar(self, value: int, dtype: str = "int64") -> str:
        """Return a scalar constant."""
        text = str(value).replace("-", "m")
        return self.constant(
            f"{'s' if dtype == 'int64' else 'd'}_{text}", value, np.int64 if dtype == "int64" else np.float64
        )

    def clamped(self, source: str, low: int, high: int) -> str:
        """Clamp int64 to low..high with Where: int64 Clip is wrong in released runtimes (design 4)."""
        raised = self.op("Where", self.op("Less", source, self.scalar(low)), self.scalar(low), source)
        return self.op("Where", self.op("Greater", raised, self.scalar(high)), self.scalar(high), raised)

    def present(self) -> str:
        """Return the participation mask as a boolean (batch, bidders)."""
        return self.op("Greater", PARTICIPATION, self.scalar(0))

    def output(self, name: str, *dims: int) -> None:
        """Declare an int64 output of shape (batch, *dims)."""
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, [BATCH, *dims]))

    def model(self, parameters: Parameters) -> onnx.ModelProto:
        """Return the finished model with its header and digests in the metadata."""
        header = self.header
        inputs = [
            helper.make_tensor_value_info(BIDS, TensorProto.INT64, [BATCH, header.bidders, header.items]),
            helper.make_tensor_value_info(PARTICIPATION, TensorProto.INT64, [BATCH, header.bidders]),
        ]
        if header.context:
            inputs.append(helper.make_tensor_value_info(CONTEXT, TensorProto.INT64, [BATCH, len(header.context)]))
        initializers = [self._initializers[name] for name in sorted(self._initializers)]
        graph = helper.make_graph(self._nodes, header.kind, inputs, self._outputs, initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="credible")
        model.ir_version = IR_VERSION
        metadata = {
            KEY_HEADER: header.encode(),
            KEY_MECHANISM: mechanism_digest(header, parameters),
            KEY_GRAPH: graph_digest(model),
        }
        helper.set_model_props(model, metadata)
        return model


def graph_digest(model: onnx.ModelProto) -> str:
    """Return the digest of a canonical walk of the graph: everything that computes, nothing that decorates.

    Covered: opset imports, inputs and outputs with types and dimensions, nodes in order with sorted attributes,
    initializers sorted by name with their little-endian bytes; every part is length-prefixed. Left out: node names,
    documentation, producer, value_info, metadata, IR version.
    """
    digest = hashlib.sha256()

    def put(*parts: bytes | str | int) -> None:
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode("utf-8")
            digest.update(len(data).to_bytes(8, "big") + data)

    def put_value(value: onnx.ValueInfoProto) -> None:
        tensor = value.type.tensor_type
        put(value.name, tensor.elem_type, len(tensor.shape.dim))
        for dimension in tensor.shape.dim:
            put(dimension.dim_param or dimension.dim_value)

    put("credible-graph-v1", len(model.opset_import))
    for opset in sorted(model.opset_import, key=lambda item: item.domain):
        put(opset.domain, opset.version)
    graph = model.graph
    for values in (graph.input, graph.output):
        put(len(values))
        for value in values:
            put_value(value)
    put(len(graph.node))
    for node in graph.node:
        put(
            node.op_type, node.domain, len(node.input), *node.input, len(node.output), *node.output, len(node.attribute)
        )
        for attribute in sorted(node.attribute, key=lambda item: item.name):
            put(attribute.name, attribute.SerializeToString(deterministic=True))
    put(len(graph.initializer))
    for tensor in sorted(graph.initializer, key=lambda item: item.name):
        put(tensor.name, tensor.data_type, len(tensor.dims), *tensor.dims, tensor.raw_data)
    return digest.hexdigest()
