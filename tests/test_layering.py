"""Dependencies point one way: credible -> mechanisms, protocol; mechanisms -> protocol.artifact."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("package", "banned", "allowed"),
    [
        ("protocol", ("torch", "mechanisms", "credible", "pickle"), ()),
        ("mechanisms", ("credible", "protocol", "pickle"), ("protocol.artifact",)),
        ("credible", ("pickle",), ()),
    ],
)
def test_no_import_against_the_direction(package: str, banned: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        for name in imports(path):
            if name.split(".")[0] in banned:
                assert name.startswith(allowed) and allowed, f"{path.relative_to(ROOT)} imports {name}"


def test_the_check_sees_a_forbidden_import(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from mechanisms.affine import menu\n", encoding="utf-8")
    assert list(imports(bad)) == ["mechanisms.affine.menu"]


def test_verification_loads_no_torch_and_no_onnx_before_it_needs_them() -> None:
    code = (
        "import sys, protocol.verify, credible.cli; credible.cli.build_app([]); "
        "loaded = {'torch', 'onnx', 'onnxruntime', 'matplotlib'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(loaded)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
