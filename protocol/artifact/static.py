"""Static checks of a model file, in the order of hardening 2; the first that fails refuses the file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError, Message
from onnx import TensorProto

from protocol.artifact.classes import MechanismClass, mechanism_class
from protocol.artifact.graph import ALLOCATION, BATCH, BIDS, CHOICE, CONTEXT, PARTICIPATION, PAYMENT, graph_digest
from protocol.artifact.header import IR_VERSION, KEY_GRAPH, KEY_HEADER, KEY_MECHANISM, MAX_BYTES, OPSET, Header
from protocol.artifact.interval import INT64, INT64_MAX, INT64_MIN, MAX_RANK, OPERATORS, Prover, Range, constant_range
from protocol.artifact.parameters import Parameters, mechanism_digest
from protocol.errors import ArtifactRefusedError, LimitError, MalformedError

MAX_NODES: Final = 2_000
_DTYPES: Final[dict[int, np.dtype[np.generic]]] = {
    TensorProto.INT64: np.dtype("<i8"),
    TensorProto.DOUBLE: np.dtype("<f8"),
    TensorProto.BOOL: np.dtype("?"),
}
_INPUTS: Final = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Less", "Greater", "Equal", "MatMul", "Gather"), 2),
    **dict.fromkeys(("ReduceMax", "ReduceSum", "Unsqueeze", "Squeeze"), 2),
    "Where": 3,
    "Cast": 1,
    "ArgMax": 1,
}
_ATTRIBUTES: Final = {
    "Cast": {"to"},
    "ArgMax": {"axis", "keepdims", "select_last_index"},
    "ReduceMax": {"keepdims", "noop_with_empty_axes"},
    "ReduceSum": {"keepdims", "noop_with_empty_axes"},
    "Gather": {"axis"},
    "Concat": {"axis"},
}


_PLAIN: Final = {"name", "type", "i"}  # fields of an attribute; nothing is hidden beside them (hardening 2.4)


@dataclass(frozen=True, slots=True)
class CheckedArtifact:
    """An artifact that passed every static check.

    Attributes:
        data: The file's bytes, as hashed.
        file_sha256: Their SHA-256, hex; what manifests and commitments bind (`mech`).
        header: The header it states.
        kind: The registered class it claims.
        parameters: Its parameters, int64.
        mechanism_digest: Recomputed from header and parameters.
        graph_digest: Recomputed from the graph.
        false_claims: What its metadata states and recomputation refutes; such a file is inspected, never run.
        max_bits: Bits of the greatest float64 magnitude that the interval proof admits.
        elements: Elements of all intermediates of one round, which decide how many rounds are run together.
        model: The parsed model.
        initializers: Its constants by name.
    """

    data: bytes
    file_sha256: str
    header: Header
    kind: MechanismClass
    parameters: Parameters
    mechanism_digest: str
    graph_digest: str
    false_claims: tuple[str, ...]
    max_bits: int
    elements: int
    model: onnx.ModelProto
    initializers: dict[str, npt.NDArray[np.generic]]


def check(data: bytes) -> CheckedArtifact:
    """Check a model file and prove it exact for every int64 input.

    Raises:
        ArtifactRefusedError: If the file leaves the exact profile; the text names the check.
        LimitError: If it is larger than spec 12 allows.
    """
    if len(data) > MAX_BYTES:
        raise LimitError("artifact in bytes", len(data), MAX_BYTES)
    model = _parse(data)
    metadata = _check_header(model)
    try:
        header = Header.decode(metadata[KEY_HEADER])
    except MalformedError as error:
        raise ArtifactRefusedError(f"header: {error}") from error
    kind = mechanism_class(header.kind)
    initializers = {tensor.name: _read_tensor(tensor) for tensor in model.graph.initializer}
    if len(initializers) != len(model.graph.initializer):
        raise ArtifactRefusedError("an initializer name is used twice")
    parameters = kind.read(header, initializers)
    prover = _prove(model, header, initializers)
    digests = {KEY_MECHANISM: mechanism_digest(header, parameters), KEY_GRAPH: graph_digest(model)}
    false_claims = tuple(
        f"metadata states {key} {metadata[key][:16]}..., recomputed {digest[:16]}..."
        for key, digest in digests.items()
        if metadata[key] != digest
    )
    return CheckedArtifact(
        data=data,
        file_sha256=hashlib.sha256(data).hexdigest(),
        header=header,
        kind=kind,
        parameters=parameters,
        mechanism_digest=digests[KEY_MECHANISM],
        graph_digest=digests[KEY_GRAPH],
        false_claims=false_claims,
        max_bits=max(prover.largest - 1, 0).bit_length(),
        elements=prover.elements,
        model=model,
        initializers=initializers,
    )


def _parse(data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.ModelProto.FromString(data)
        known = onnx.ModelProto.FromString(data)
        known.DiscardUnknownFields()
        again = known.SerializeToString(deterministic=True)
    except (DecodeError, ValueError, RecursionError) as error:
        raise ArtifactRefusedError(f"not an ONNX file: {error}") from error
    if again != data:  # concatenated models, unknown or repeated fields: other bytes, same model (hardening 2.2)
        raise ArtifactRefusedError("the file is not the one serialisation of its model (hardening 2.2)")
    _check_text(model)
    return model


def _check_text(message: Message) -> None:
    """Refuse text that is not printable ASCII; the runtime and protobuf may read other bytes differently."""
    for descriptor, value in message.ListFields():
        values = value if descriptor.is_repeated else [value]
        if descriptor.type == descriptor.TYPE_MESSAGE:
            for item in values:
                _check_text(item)
        elif descriptor.type == descriptor.TYPE_STRING:
            for item in values:
                if not isinstance(item, str) or not item.isascii() or not (item.isprintable() or not item):
                    raise ArtifactRefusedError(f"field {descriptor.name} holds text that is not printable ASCII")


def _check_header(model: onnx.ModelProto) -> dict[str, str]:
    opsets = [(item.domain, item.version) for item in model.opset_import]
    if opsets != [("", OPSET)] or model.ir_version != IR_VERSION:
        raise ArtifactRefusedError(f"opset {opsets} and IR {model.ir_version}, wanted {OPSET} and {IR_VERSION}")
    graph = model.graph
    for what, present in (
        ("functions", model.functions),
        ("training info", model.training_info),
        ("sparse initializers", graph.sparse_initializer),
        ("quantization annotations", graph.quantization_annotation),
        ("value_info", graph.value_info),
        ("graph metadata", graph.metadata_props),
        ("documentation", model.doc_string or graph.doc_string),
        ("device configurations", model.configuration),
    ):
        if present:
            raise ArtifactRefusedError(f"the file has {what}, which the profile does not allow (hardening 2.3)")
    if len(model.producer_name) + len(model.producer_version) + len(model.domain) > 200:
        raise ArtifactRefusedError("producer text is longer than 200 characters (hardening 2.3)")
    keys = [item.key for item in model.metadata_props]
    if sorted(keys) != sorted((KEY_HEADER, KEY_MECHANISM, KEY_GRAPH)):
        raise ArtifactRefusedError(f"metadata keys are {keys[:8]}, wanted the three of the profile, each once")
    return {item.key: item.value for item in model.metadata_props}


def _read_tensor(tensor: onnx.TensorProto) -> npt.NDArray[np.generic]:
    name = tensor.name
    if tensor.data_type not in _DTYPES:
        raise ArtifactRefusedError(f"initializer {name} has type {tensor.data_type}, wanted int64, float64 or bool")
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        raise ArtifactRefusedError(f"initializer {name} points outside the file (hardening 2.4)")
    if tensor.HasField("segment") or tensor.doc_string or tensor.metadata_props:
        raise ArtifactRefusedError(f"initializer {name} carries fields that the profile does not allow")
    others = (tensor.float_data, tensor.int32_data, tensor.string_data, tensor.int64_data, tensor.double_data)
    if any(others) or tensor.uint64_data:
        raise ArtifactRefusedError(f"initializer {name} does not keep its values as raw bytes (hardening 2.7)")
    dtype = _DTYPES[tensor.data_type]
    if not name or len(tensor.dims) > MAX_RANK:
        raise ArtifactRefusedError(
            f"initializer {name!r} has no name or {len(tensor.dims)} dimensions, at most {MAX_RANK}"
        )
    count = 1
    for size in tensor.dims:
        if size < 1:
            raise ArtifactRefusedError(f"initializer {name} has a negative dimension or an empty one: {size}")
        count *= size
    if count * dtype.itemsize != len(tensor.raw_data):
        raise ArtifactRefusedError(f"initializer {name}: {count} elements stated, {len(tensor.raw_data)} bytes held")
    array = np.frombuffer(tensor.raw_data, dtype=dtype).reshape(tuple(tensor.dims))
    if dtype.kind == "f" and (not np.isfinite(array).all() or (array != np.floor(array)).any()):
        raise ArtifactRefusedError(f"initializer {name} holds a value that is no integer (hardening 2.7)")
    if dtype.kind == "f" and array.size and np.abs(array).max() > 2.0**53:
        raise ArtifactRefusedError(f"initializer {name} holds a float64 above 2^53")
    if dtype.kind == "f" and (np.signbit(array) & (array == 0)).any():
        raise ArtifactRefusedError(f"initializer {name} holds a negative zero")
    return array


def _prove(model: onnx.ModelProto, header: Header, initializers: dict[str, npt.NDArray[np.generic]]) -> Prover:
    graph = model.graph
    wanted_inputs = {BIDS: (header.bidders, header.items), PARTICIPATION: (header.bidders,)}
    if header.context:
        wanted_inputs[CONTEXT] = (len(header.context),)
    wanted_outputs: dict[str, tuple[int, ...]] = {
        ALLOCATION: (header.bidders, header.items),
        PAYMENT: (header.bidders,),
    }
    if len(graph.output) == 3:
        wanted_outputs[CHOICE] = ()
    for what, values, wanted in (("inputs", graph.input, wanted_inputs), ("outputs", graph.output, wanted_outputs)):
        got = {value.name: _dims(value) for value in values}
        if got != wanted or len(values) != len(wanted):
            raise ArtifactRefusedError(f"{what} are {got}, the header calls for {wanted} (hardening 2.6)")
    if len(graph.node) > MAX_NODES:
        raise ArtifactRefusedError(f"{len(graph.node)} nodes, at most {MAX_NODES} (hardening 2.8)")
    ranges = {name: constant_range(array) for name, array in initializers.items()}
    for name, shape in wanted_inputs.items():
        if name in ranges:
            raise ArtifactRefusedError(f"{name} is an input and an initializer (hardening 2.7)")
        ranges[name] = Range(INT64, (None, *shape), INT64_MIN, INT64_MAX)
    prover = Prover(ranges)
    node_names: set[str] = set()
    for node in graph.node:
        _check_node(node, prover, node_names)
        prover.visit(node)
    for name, shape in wanted_outputs.items():
        result = prover.ranges.get(name)
        if result is None or result.dtype != INT64 or result.dims != (None, *shape):
            raise ArtifactRefusedError(f"output {name} is not computed as int64 of shape (batch, {shape})")
    return prover


def _check_node(node: onnx.NodeProto, prover: Prover, node_names: set[str]) -> None:
    if node.domain or node.overload or node.doc_string or node.metadata_props or node.device_configurations:
        raise ArtifactRefusedError(f"node {node.name} has fields that the profile does not allow (hardening 2.5)")
    if node.op_type not in OPERATORS:
        raise ArtifactRefusedError(f"operator {node.op_type[:40]} is not in the exact profile (hardening 2.5)")
    if not node.name or node.name in node_names:
        raise ArtifactRefusedError(f"node name {node.name!r} is empty or used twice (hardening 2.8)")
    node_names.add(node.name)
    if node.op_type != "Concat" and len(node.input) != _INPUTS[node.op_type]:
        raise ArtifactRefusedError(f"node {node.name} ({node.op_type}) has {len(node.input)} inputs")
    if not node.input or len(node.output) != 1 or not node.output[0]:
        raise ArtifactRefusedError(f"node {node.name} must have inputs and one named output")
    if node.output[0] in prover.ranges:
        raise ArtifactRefusedError(f"name {node.output[0]} is written twice (hardening 2.8)")
    for name in node.input:
        if name not in prover.ranges:
            raise ArtifactRefusedError(f"node {node.name} reads {name!r} before it is written (hardening 2.8)")
    names = [attribute.name for attribute in node.attribute]
    if sorted(names) != sorted(_ATTRIBUTES.get(node.op_type, set())):
        raise ArtifactRefusedError(f"node {node.name} ({node.op_type}) has attributes {names} (hardening 2.5)")
    for attribute in node.attribute:
        if attribute.type != onnx.AttributeProto.INT or {field.name for field, _ in attribute.ListFields()} - _PLAIN:
            raise ArtifactRefusedError(f"attribute {attribute.name} of node {node.name} is no integer (hardening 2.4)")


def _dims(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    if value.type.WhichOneof("value") != "tensor_type" or tensor.elem_type != TensorProto.INT64 or not dims:
        return None
    if dims[0].dim_param != BATCH or any(item.WhichOneof("value") != "dim_value" for item in dims[1:]):
        return None
    return tuple(item.dim_value for item in dims[1:])
