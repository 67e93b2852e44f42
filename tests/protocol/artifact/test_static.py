"""Hardening 2: hostile artifacts, one case at least for every clause; refused by name, before anything is run."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from protocol.artifact import RoundInput, Sandbox, build, selftest
from protocol.artifact.certify import certify
from protocol.artifact.engine import Engine
from protocol.artifact.graph import graph_digest
from protocol.artifact.header import KEY_GRAPH, KEY_HEADER, KEY_MECHANISM, Header
from protocol.artifact.interval import INT64_MAX, INT64_MIN, Prover, Range, constant_range
from protocol.artifact.parameters import mechanism_digest
from protocol.artifact.static import CheckedArtifact, check
from protocol.errors import ArtifactRefusedError, LimitError, MalformedError


def small() -> CheckedArtifact:
    return build.menu_affine(
        [[[0], [0]], [[4], [0]], [[0], [4]]], [3, 0, 1], [1, 2], bid_max=10, share_bits=2, unit="1"
    )


def mutated(change: Callable[[onnx.ModelProto], object], *, digests: bool = False) -> bytes:
    """Return the small artifact with one change; `digests` recomputes what the metadata states of the graph."""
    model = onnx.ModelProto.FromString(small().data)
    change(model)
    if digests:
        for item in model.metadata_props:
            if item.key == KEY_GRAPH:
                item.value = graph_digest(model)
    return model.SerializeToString(deterministic=True)


def node(model: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    return next(item for item in model.graph.node if item.op_type == kind)


def initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(item for item in model.graph.initializer if item.name == name)


def replace_tensor(model: onnx.ModelProto, name: str, value: object, dtype: type) -> None:
    initializer(model, name).CopyFrom(numpy_helper.from_array(np.array(value, dtype=dtype), name))


def add_unused(model: onnx.ModelProto, kind: str, *inputs: str, **attributes: int) -> None:
    model.graph.node.append(
        helper.make_node(kind, list(inputs), ["unused"], name="unused", **dict[str, Any](attributes))
    )


REFUSED: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "opset": (lambda m: setattr(m.opset_import[0], "version", 19), "opset"),
    "second opset": (lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3)), "opset"),
    "ir version": (lambda m: setattr(m, "ir_version", 9), "IR 9"),
    "function": (lambda m: m.functions.append(onnx.FunctionProto(name="f")), "functions"),
    "training": (lambda m: m.training_info.append(onnx.TrainingInfoProto()), "training"),
    "value_info": (
        lambda m: m.graph.value_info.append(helper.make_tensor_value_info("q", TensorProto.INT64, [1])),
        "value_info",
    ),
    "doc string": (lambda m: setattr(m, "doc_string", "x" * 10_000), "documentation"),
    "metadata twice": (lambda m: m.metadata_props.append(m.metadata_props[0]), "metadata keys"),
    "metadata missing": (lambda m: m.metadata_props.pop(), "metadata keys"),
    "header not canonical": (
        lambda m: setattr(m.metadata_props[0], "value", " " + m.metadata_props[0].value),
        "header|metadata",
    ),
    "sparse": (lambda m: m.graph.sparse_initializer.append(onnx.SparseTensorProto()), "sparse"),
    "external data": (
        lambda m: initializer(m, "menu").external_data.append(
            onnx.StringStringEntryProto(key="location", value="/etc/passwd")
        ),
        "points outside",
    ),
    "external location": (
        lambda m: setattr(initializer(m, "menu"), "data_location", TensorProto.EXTERNAL),
        "points outside",
    ),
    "loop": (lambda m: add_unused(m, "Loop", "menu"), "Loop is not in the exact profile"),
    "random": (lambda m: add_unused(m, "RandomNormal"), "RandomNormal is not"),
    "float div": (lambda m: add_unused(m, "Div", "boosts", "boosts"), "types"),
    "exp": (lambda m: add_unused(m, "Exp", "boosts"), "Exp is not"),
    "int max": (lambda m: add_unused(m, "Max", "menu", "menu"), "Max is not"),
    "int reduce": (lambda m: add_unused(m, "ReduceMax", "menu", "i_1", keepdims=1, noop_with_empty_axes=0), "types"),
    "other domain": (lambda m: setattr(m.graph.node[0], "domain", "com.microsoft"), "fields that the profile"),
    "unknown attribute": (lambda m: m.graph.node[0].attribute.append(helper.make_attribute("axis", 1)), "attributes"),
    "graph attribute": (
        lambda m: (
            node(m, "Cast").attribute[0].CopyFrom(helper.make_attribute("to", helper.make_graph([], "g", [], [])))
        ),
        "is no integer",
    ),
    "last tie": (
        lambda m: setattr(next(a for a in node(m, "ArgMax").attribute if a.name == "select_last_index"), "i", 1),
        "lowest index",
    ),
    "node name twice": (lambda m: setattr(m.graph.node[1], "name", m.graph.node[0].name), "used twice"),
    "node without name": (lambda m: setattr(m.graph.node[1], "name", ""), "empty"),
    "written twice": (lambda m: m.graph.node[1].output.__setitem__(0, m.graph.node[0].output[0]), "written twice"),
    "cycle": (lambda m: m.graph.node[0].input.__setitem__(0, "payment"), "before it is written"),
    "output missing": (lambda m: m.graph.output.pop(0), "outputs are"),
    "input missing": (lambda m: m.graph.input.pop(1), "inputs are"),
    "extra input": (
        lambda m: m.graph.input.append(helper.make_tensor_value_info("more", TensorProto.INT64, ["batch", 1])),
        "inputs are",
    ),
    "input of floats": (
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.FLOAT),
        "inputs are",
    ),
    "bound batch": (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 4), "inputs are"),
    "initializer is input": (
        lambda m: setattr(initializer(m, "ones"), "name", "bids"),
        "initializer|before it is written",
    ),
    "initializer twice": (lambda m: m.graph.initializer.append(initializer(m, "menu")), "used twice"),
    "payload too long": (lambda m: setattr(initializer(m, "menu"), "raw_data", bytes(1000)), "elements stated"),
    "negative dimension": (lambda m: initializer(m, "menu").dims.__setitem__(0, -3), "negative dimension"),
    "huge dimension": (lambda m: initializer(m, "menu").dims.__setitem__(0, 2**40), "elements stated"),
    "two payloads": (lambda m: initializer(m, "menu").int64_data.append(1), "raw bytes"),
    "float32": (lambda m: replace_tensor(m, "boosts", [1, 2, 3], np.float32), "has type"),
    "fraction": (lambda m: replace_tensor(m, "boosts", [0.5, 2, 3], np.float64), "no integer"),
    "nan": (lambda m: replace_tensor(m, "boosts", [np.nan, 2, 3], np.float64), "no integer"),
    "infinity": (lambda m: replace_tensor(m, "boosts", [np.inf, 2, 3], np.float64), "no integer"),
    "negative zero": (lambda m: replace_tensor(m, "boosts", [-0.0, 2, 3], np.float64), "negative zero"),
    "above 2^53": (lambda m: replace_tensor(m, "boosts", [2.0**54, 2, 3], np.float64), "above 2"),
    "sum above 2^53": (lambda m: replace_tensor(m, "boosts", [2.0**53, 2, 3], np.float64), "exact only to 2"),
    "weights zero": (lambda m: replace_tensor(m, "weights", [0, 1], np.int64), "divisor may be 0"),
    "no clamp": (lambda m: node(m, "Where").input.__setitem__(2, "s_0"), ""),
    "bad index": (lambda m: replace_tensor(m, "s_1", 7, np.int64), "index 7"),
    "parameter shape": (lambda m: replace_tensor(m, "weights", [1, 1, 1], np.int64), "has shape"),
}
del REFUSED["no clamp"]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_hostile_artifact_is_refused_by_name(name: str) -> None:
    change, text = REFUSED[name]
    with pytest.raises(ArtifactRefusedError, match=text):
        check(mutated(change))


def test_size_is_checked_first() -> None:
    with pytest.raises(LimitError, match="the limit is 16777216"):
        check(bytes(16 * 1024 * 1024 + 1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a model",
        small().data + small().data,  # protobuf would merge the two
        small().data + b"\xf8\x3f\x01",  # an unknown field at the end
        small().data[:-1],
    ],
)
def test_other_bytes_of_the_same_model_are_refused(data: bytes) -> None:  # hardening 2.2
    with pytest.raises(ArtifactRefusedError):
        check(data)


def test_unclamped_bids_are_refused() -> None:  # hardening 2.9
    def unclamp(model: onnx.ModelProto) -> None:
        for item in model.graph.node:
            if item.op_type == "Where" and "s_10" in item.input:
                item.input[1] = item.input[2]

    with pytest.raises(ArtifactRefusedError, match="exact only to|overflow"):
        check(mutated(unclamp))


@settings(max_examples=150)
@given(st.data())
def test_a_flipped_bit_is_refused_or_uncertified_or_another_certified_mechanism(
    data: st.DataObject,
) -> None:  # hardening V5
    good = small()
    raw = bytearray(good.data)
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        other = check(bytes(raw))
    except MalformedError:
        return
    certificate = certify(other)
    assert other.file_sha256 != good.file_sha256
    if certificate.certified:  # harmless: only what decorates changed
        assert other.mechanism_digest == good.mechanism_digest
        assert other.graph_digest == good.graph_digest


def test_certificates_hold_for_canonical_graphs_only() -> None:
    assert certify(small()).certified
    first_price = build.first_price(bidders=2, bid_max=9, share_bits=2, unit="1", procurement=False)
    assert not certify(first_price).certified
    assert not certify(first_price).problems


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("one boost changed against its header", lambda m: replace_tensor(m, "boosts", [4, 0, 1], np.float64)),
        (
            "weighted matrix is not weights times menu",
            lambda m: replace_tensor(m, "weighted_1", [[0, 0, 7]], np.float64),
        ),
        ("payments rounded otherwise", lambda m: round_up(m)),
        ("payments capped at zero welfare", lambda m: cap(m)),
    ],
)
def test_inspect_refutes_what_is_not_its_class(name: str, change: Callable[[onnx.ModelProto], object]) -> None:
    for digests in (False, True):  # a forger may also recompute the graph digest in the metadata
        artifact = check(mutated(change, digests=digests))
        certificate = certify(artifact)
        assert not certificate.certified and certificate.problems, name
    with pytest.raises(ArtifactRefusedError, match="metadata states"):
        Engine(check(mutated(change)).data)


def round_up(model: onnx.ModelProto) -> None:
    """Payments rounded half up instead of floored: one unit is added before the division."""
    division = next(item for item in model.graph.node if item.op_type == "Div")
    position = list(model.graph.node).index(division)
    model.graph.node.insert(position, helper.make_node("Add", [division.input[0], "s_1"], ["up"], name="up"))
    next(item for item in model.graph.node if item.op_type == "Div").input[0] = "up"


def cap(model: onnx.ModelProto) -> None:
    """A payment that may not exceed ten: the class does not allow it."""
    division = next(item for item in model.graph.node if item.op_type == "Div")
    division.output[0] = "free"
    model.graph.node.append(helper.make_node("Greater", ["free", "s_10"], ["above"], name="above"))
    model.graph.node.append(helper.make_node("Where", ["above", "s_10", "free"], ["payment"], name="cap"))


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"menu": [[[5], [0]]], "boosts": [0], "weights": [1, 1]}, "more than the whole"),
        ({"menu": [[[3], [2]]], "boosts": [0], "weights": [1, 1]}, "more than the whole"),
        ({"menu": [[[-1], [2]]], "boosts": [0], "weights": [1, 1]}, "negative share"),
        ({"menu": [[[1], [2]]], "boosts": [0], "weights": [0, 1]}, "at least 1"),
        ({"menu": [[[1], [2]]], "boosts": [0, 1], "weights": [1, 1]}, "2 boosts for 1"),
        ({"menu": np.zeros((0, 2, 1)), "boosts": [], "weights": [1, 1]}, "0 boosts for 0"),
        ({"menu": [[[1], [2]]], "boosts": [0.5], "weights": [1, 1]}, "no integer"),
        ({"menu": [[[1], [2]]], "boosts": [2.0**54], "weights": [1, 1]}, "above 2"),
    ],
)
def test_exact_checks_of_a_menu(parameters: dict[str, object], text: str) -> None:
    with pytest.raises(ArtifactRefusedError, match=text):
        build.menu_affine(**parameters, bid_max=10, share_bits=2, unit="1")  # type: ignore[arg-type]


def test_a_menu_that_leaves_the_exact_range_is_not_built() -> None:
    with pytest.raises(ArtifactRefusedError, match="exact only to 2"):
        build.menu_affine([[[2**16], [0]]], [0], [2**10, 1], bid_max=2**40, share_bits=16, unit="1")


def test_the_prover_knows_the_edges_of_float64_and_int64() -> None:
    def prove(kind: str, low: int, high: int, constant: object, dtype: type) -> Range:
        prover = Prover({"x": Range("int64" if dtype is np.int64 else "double", (None, 2), low, high),
                         "c": constant_range(np.array(constant, dtype=dtype))})  # fmt: skip
        prover.visit(helper.make_node(kind, ["x", "c"], ["y"], name="n"))
        return prover.ranges["y"]

    assert prove("Add", -5, 2**53 - 1, [1, 0], np.float64).high == 2**53
    assert prove("MatMul", -(2**52), 2**52, [[1], [-1]], np.float64).high == 2**53
    assert prove("Div", -7, 7, [2, 2], np.int64).low == -3
    assert prove("Add", 0, INT64_MAX - 1, [1, 0], np.int64).high == INT64_MAX
    for kind, low, high, constant, dtype in (
        ("Add", 0, 2**53, [1, 0], np.float64),
        ("MatMul", 0, 2**52, [[1], [2]], np.float64),
        ("MatMul", 0, 2**62, [[1], [2]], np.int64),
        ("Add", 0, INT64_MAX, [1, 0], np.int64),
        ("Sub", INT64_MIN, 0, [1, 0], np.int64),
        ("Mul", 0, 2**40, [2**40, 0], np.int64),
        ("Div", 0, 5, [0, 1], np.int64),
        ("Div", 0, 5, [-1, 1], np.int64),
    ):
        with pytest.raises(ArtifactRefusedError):
            prove(kind, low, high, constant, dtype)


def test_empty_axes_and_empty_dimensions_are_refused() -> None:
    """The runtime drops the batch of a single round for empty axes, and broadcasts a dimension of 0 to 0, not to 1."""
    inputs = {
        "x": Range("double", (None, 1), 0, 5),
        "none": constant_range(np.zeros(0, dtype=np.int64)),
        "empty": constant_range(np.zeros(0)),
    }
    for made in (
        helper.make_node("Squeeze", ["x", "none"], ["y"], name="n"),
        helper.make_node("Unsqueeze", ["x", "none"], ["y"], name="n"),
        helper.make_node("Add", ["x", "empty"], ["y"], name="n"),
        helper.make_node("Gather", ["x", "none"], ["y"], name="n", axis=1),
    ):
        with pytest.raises(ArtifactRefusedError):
            Prover(inputs).visit(made)
    for shape in ((0,), (2, 0), (1,) * 9, (0, 2**62)):
        change = helper.make_tensor("ones", TensorProto.INT64, shape, b"" if 0 in shape else bytes(8), raw=True)
        with pytest.raises(ArtifactRefusedError):
            check(mutated(lambda m, t=change: initializer(m, "ones").CopyFrom(t)))  # type: ignore[misc]


def test_shapes_that_no_rule_foresees_are_refused() -> None:
    empty = {"x": Range("double", (None, 2), 0, 5), "m": constant_range(np.zeros((2, 0)))}
    scalar = {"x": Range("double", (), 0, 5), "i": constant_range(np.array([0]))}
    for inputs, made in (
        (empty, helper.make_node("MatMul", ["x", "m"], ["y"], name="n")),
        (empty, helper.make_node("ArgMax", ["x"], ["y"], name="n")),  # no attributes
        (scalar, helper.make_node("Gather", ["x", "i"], ["y"], name="n", axis=0)),
        (scalar, helper.make_node("Concat", ["x", "x"], ["y"], name="n", axis=1)),
    ):
        with pytest.raises(ArtifactRefusedError):
            Prover(inputs).visit(made)


def test_rounds_of_a_batch_never_meet() -> None:
    inputs = {
        "x": Range("double", (None, 2), 0, 5),
        "axes": constant_range(np.array([0])),
        "i": constant_range(np.array(0)),
    }
    for made in (
        helper.make_node("ReduceMax", ["x", "axes"], ["y"], name="n", keepdims=1, noop_with_empty_axes=0),
        helper.make_node("Gather", ["x", "i"], ["y"], name="n", axis=0),
        helper.make_node("Concat", ["x", "x"], ["y"], name="n", axis=0),
        helper.make_node("ArgMax", ["x"], ["y"], name="n", axis=0, keepdims=0, select_last_index=0),
        helper.make_node("MatMul", ["x", "x"], ["y"], name="n"),
    ):
        with pytest.raises(ArtifactRefusedError):
            Prover(inputs).visit(made)


def test_digests_change_with_meaning_and_not_with_decoration() -> None:
    good = small()
    named = onnx.ModelProto.FromString(good.data)
    for index, item in enumerate(named.graph.node):
        item.name = f"other-{index}"
    named.producer_name = "somebody"
    assert graph_digest(named) == good.graph_digest
    named.opset_import[0].version = 19
    assert graph_digest(named) != good.graph_digest
    changed = dict(good.parameters)
    changed["boosts"] = changed["boosts"] + np.array([0, 0, 1])
    assert mechanism_digest(good.header, changed) != good.mechanism_digest
    keys = [item.key for item in onnx.ModelProto.FromString(good.data).metadata_props]
    assert keys == [KEY_HEADER, KEY_MECHANISM, KEY_GRAPH]
    assert Header.decode(good.header.encode()) == good.header


def test_building_is_reproducible() -> None:
    assert small().data == small().data


def test_self_test_covers_every_operator_and_catches_a_wrong_runtime(monkeypatch: pytest.MonkeyPatch) -> None:  # 2.10
    from protocol.artifact.interval import OPERATORS

    assert {vector[0] for vector in selftest.VECTORS} == OPERATORS
    monkeypatch.setattr(selftest, "_passed", [])
    selftest.run()
    wrong = [*selftest.VECTORS]
    wrong[0] = (*wrong[0][:4], [not value for value in wrong[0][4]])
    monkeypatch.setattr(selftest, "_passed", [])
    monkeypatch.setattr(selftest, "VECTORS", wrong)
    with pytest.raises(ArtifactRefusedError, match="computes Less wrongly"):
        selftest.run()


def test_the_sandbox_refuses_and_survives() -> None:  # spec 2.14
    good = small()
    with pytest.raises(ArtifactRefusedError, match="wanted 00"):
        Sandbox(good.data, "00" * 32)
    with pytest.raises(ArtifactRefusedError, match="not an ONNX file"):
        Sandbox(b"junk")
    with Sandbox(good.data, good.file_sha256) as sandbox:
        assert sandbox.summary.certified
        assert sandbox.summary.max_bits == good.max_bits
        sandbox._child.kill()
        assert sandbox.run([]) == []
        with pytest.raises(ArtifactRefusedError, match="was ended by SIGKILL"):
            sandbox.run([RoundInput(bids=[[1], [2]], participation=[1, 1], context=[])])
    with Sandbox(good.data) as sandbox:
        sandbox._child.send_signal(signal.SIGPROF)  # what the kernel sends where its processor time is used up
        with pytest.raises(ArtifactRefusedError, match="was ended by SIGPROF"):
            sandbox.run([RoundInput(bids=[[1], [2]], participation=[1, 1], context=[])])


def test_the_sandbox_tells_a_callers_mistake_from_a_failed_artifact() -> None:
    good = RoundInput(bids=[[1], [2]], participation=[1, 1], context=[])
    with Sandbox(small().data) as sandbox:
        for bad in ({"bids": [[1]]}, {"participation": [1, 2]}, {"context": [3]}):
            with pytest.raises(ValueError, match="must be|must have"):
                sandbox.run([msgspec.structs.replace(good, **bad)])
        assert len(sandbox.run([good] * 3)) == 3  # the child lives on
        sandbox.close()
        sandbox.close()
        with pytest.raises(ArtifactRefusedError, match="has ended"):
            sandbox.run([good])


def test_a_decorated_file_has_no_certificate() -> None:
    for change in (
        lambda m: setattr(m.graph, "name", "other"),
        lambda m: setattr(m, "producer_name", "ORTM"),
        lambda m: setattr(m.graph.input[0], "doc_string", "words"),
        lambda m: setattr(m, "model_version", -5),
    ):
        certificate = certify(check(mutated(change)))
        assert not certificate.certified
        assert "decorates" in certificate.problems[0]


def test_the_child_has_no_environment_and_cannot_write() -> None:  # hardening 2.12
    good = small()
    with Sandbox(good.data) as sandbox:
        pid = sandbox._child.pid
        with open(f"/proc/{pid}/environ", "rb") as file:
            names = {part.split(b"=")[0] for part in file.read().split(b"\0") if part}
        assert names <= {b"LC_CTYPE"}  # CPython itself coerces the C locale
        with open(f"/proc/{pid}/limits", encoding="ascii") as file:
            limits = file.read()
        assert "Max file size             0" in limits
        assert "Max open files            64" in limits
        assert f"Max address space         {2 * 1024**3}" in limits


def claimed(model: onnx.ModelProto, parameters: dict[str, Any], header: Header) -> CheckedArtifact:
    """A checked file whose metadata is true of its graph, whatever the graph computes."""
    digests = {KEY_HEADER: header.encode(), KEY_MECHANISM: mechanism_digest(header, parameters)}
    del model.metadata_props[:]
    helper.set_model_props(model, {**digests, KEY_GRAPH: graph_digest(model)})
    return check(model.SerializeToString(deterministic=True))


def parsed(artifact: CheckedArtifact) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(artifact.data)


def with_fees(kind: str) -> CheckedArtifact:
    fee = {
        "fee_first": np.ones((2, 1, 1, 2), dtype=np.int64), "fee_first_bias": [[0, 1], [2, 0]],
        "fee_second": np.ones((2, 2, 2), dtype=np.int64), "fee_second_bias": [[1, 0], [0, 1]],
        "fee_third": [[1, 2], [3, 1]], "fee_third_bias": [60, 50], "fee_shifts": [1, 0, 2],
    }  # fmt: skip
    options: Any = {"bid_max": 9, "share_bits": 2, "unit": "1", "fee": fee}
    if kind == "size-boost-fee":
        return build.size_boost([4, 2, 1], [1, 3], items=1, **options)
    return build.menu_affine([[[4], [0]], [[0], [4]], [[0], [0]]], [0, 3, 1], [1, 3], **options)


@pytest.mark.parametrize("kind", ["menu-affine", "size-boost", "menu-affine-fee", "size-boost-fee"])
def test_a_member_of_each_class_is_certified_and_one_changed_boost_is_not(kind: str) -> None:
    good = with_fees(kind) if kind.endswith("-fee") else with_fees(f"{kind}-fee")
    if not kind.endswith("-fee"):
        plain = {name: value for name, value in good.parameters.items() if not name.startswith("fee_")}
        good = build.build(msgspec.structs.replace(good.header, kind=kind), **plain)
    assert certify(good).certified
    assert good.header.kind == kind
    # the table that the graph reads has another boost than the one that the header's digest covers
    table = {"menu": "boosts", "size": "boosts_all"}[kind[:4]]
    model = parsed(good)
    tensor = next(item for item in model.graph.initializer if item.name == table)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] += 1
    tensor.CopyFrom(numpy_helper.from_array(values, table))
    parameters = {name: np.asarray(value) for name, value in good.parameters.items()}
    certificate = certify(claimed(model, parameters, good.header))
    assert not certificate.certified
    assert "metadata states" in certificate.problems[0] or "not the canonical graph" in certificate.problems[0]


def test_payments_rounded_half_to_even_are_not_certified() -> None:
    """Floor is monotone; half to even is not: at weight 2 it rewards a lie by one unit."""
    good = build.menu_affine([[[4], [0]], [[0], [4]], [[0], [0]]], [0, 3, 1], [2, 2], bid_max=9, share_bits=2, unit="1")
    model = parsed(good)
    division = next(node for node in model.graph.node if node.op_type == "Div")
    numerator, weights = division.input
    extra = [
        helper.make_node("Div", [numerator, weights], ["low"], name="h0"),
        helper.make_node("Sub", [numerator, "twice"], ["odd"], name="h2"),  # 0 or 1: half a unit is left
        helper.make_node("Div", ["low", weights], ["half"], name="h3"),
        helper.make_node("Sub", ["low", "twice_half"], ["low_is_odd"], name="h5"),
        helper.make_node("Mul", ["odd", "low_is_odd"], ["up"], name="h6"),
        helper.make_node("Add", ["low", "up"], ["payment"], name="h7"),
    ]
    extra.insert(1, helper.make_node("Mul", ["low", weights], ["twice"], name="h1"))
    extra.insert(4, helper.make_node("Mul", ["half", weights], ["twice_half"], name="h4"))
    nodes = [node for node in model.graph.node if node is not division and node.name != division.name]
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *extra])
    bad = claimed(model, {name: np.asarray(value) for name, value in good.parameters.items()}, good.header)
    certificate = certify(bad)
    assert not certificate.certified
    assert "not the canonical graph" in certificate.problems[0]


@pytest.mark.parametrize("kind", ["menu-affine-fee", "size-boost-fee"])
def test_a_fee_capped_at_the_utility_instead_of_opting_out_is_not_certified(kind: str) -> None:
    """Capping pays to shade the bid: the fee then depends on the bidder's own report."""
    good = with_fees(kind)
    model = parsed(good)
    made = {node.output[0]: node for node in model.graph.node}
    payment = made["payment"]
    utility = made[made[payment.input[0]].input[0]]  # compared with the fee
    payment.input[1] = utility.input[0]  # who would opt out pays its value and keeps the item
    award = made[made["allocation"].input[1]]
    award.input[1] = award.input[2]
    bad = claimed(model, {name: np.asarray(item) for name, item in good.parameters.items()}, good.header)
    certificate = certify(bad)
    assert not certificate.certified
    assert "not the canonical graph" in certificate.problems[0]
    bids = np.array([[[v], [w]] for v in range(10) for w in range(10)])
    truthful = Engine(bad.data).run_arrays(bids)
    gains = []
    for report in range(10):
        lies = bids.copy()
        lies[:, 0] = report
        told = Engine(bad.data).run_arrays(lies)
        gain = (
            ((told["allocation"] - truthful["allocation"]) * bids).sum(axis=2) + truthful["payment"] - told["payment"]
        )
        gains.append(gain[:, 0])
    assert np.max(gains) > 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"fee_shifts": [0, 0, 51]}, "fee_shifts"),
        ({"fee_first": np.zeros((2, 2, 1, 2), dtype=np.int64)}, "for 2 rivals, wanted 1"),
        ({"fee_second_bias": [[0], [0]]}, "fee_second_bias has shape"),
        ({"fee_third": [[1, 2, 3], [1, 2, 3]]}, "fee_third has shape"),
    ],
)
def test_fees_of_another_shape_are_refused(change: dict[str, Any], text: str) -> None:
    good = with_fees("size-boost-fee")
    with pytest.raises(ArtifactRefusedError, match=text):
        build.build(good.header, **{**good.parameters, **change})


def test_a_fee_needs_rivals_and_size_boosts_a_bounded_programme() -> None:
    good = with_fees("size-boost-fee")
    alone = msgspec.structs.replace(good.header, bidders=1)
    parameters: dict[str, npt.ArrayLike] = {name: value[:1] for name, value in good.parameters.items()}
    parameters |= {"boosts": [1, 0], "fee_shifts": good.parameters["fee_shifts"]}
    with pytest.raises(ArtifactRefusedError, match="at least 2 bidders"):
        build.build(alone, **parameters)
    with pytest.raises(ArtifactRefusedError, match="at most 20000"):
        build.size_boost(np.zeros(184_756), np.ones(10), items=10, bid_max=9, share_bits=0, unit="1")
    with pytest.raises(ArtifactRefusedError, match="weights must be at least 1"):
        build.size_boost([1, 2, 3], [0, 1], items=1, bid_max=9, share_bits=0, unit="1")
