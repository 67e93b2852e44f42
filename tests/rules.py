"""The rules of the specification, where they are cited, and the table of mutations (tests/rules.toml)."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.conftest import ROOT

TABLE: Final = ROOT / "tests" / "rules.toml"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, and a change of the code that its test notices.

    Attributes:
        number: Of docs/spec.md.
        test: Id of the test.
        file: Changed file.
        function: Changed function, qualified.
        before: The changed expression or statement, as `ast.unparse` writes it.
        after: What it is changed to.
    """

    number: str
    test: str
    file: str
    function: str
    before: str
    after: str

    @property
    def text(self) -> str:
        """The table's entry."""
        fields = ("number", "test", "file", "function", "before", "after")
        return "[[rule]]\n" + "".join(f"{name} = {_quoted(getattr(self, name))}\n" for name in fields)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=True)  # a basic string of TOML, too


def read_rules() -> list[Rule]:
    """Return the entries of the table."""
    return [Rule(**entry) for entry in tomllib.loads(TABLE.read_text("utf-8"))["rule"]]


def numbers() -> list[str]:
    """Return the numbers of all rules, in the order of the specification."""
    spec = (ROOT / "docs" / "spec.md").read_text("utf-8")
    return list(dict.fromkeys(re.findall(r"^(?:- \*\*|\| )([1-9][0-9]?\.[0-9]+)\b", spec, re.MULTILINE)))


def cited(text: str) -> set[str]:
    """Return the rules that a text cites: `spec 4.3`, `spec 4.1, 4.3`, `spec 4.1 to 4.4`, or the number in quotes."""
    found = set(re.findall(r"\"([1-9][0-9]?\.[0-9]+)\"", text))
    for run in re.findall(r"spec ((?:[0-9]+\.[0-9]+(?:, | to | and )?)+)", text):
        found |= set(re.findall(r"[0-9]+\.[0-9]+", run))
        for first, low, last, high in re.findall(r"([0-9]+)\.([0-9]+) to ([0-9]+)\.([0-9]+)", run):
            if first == last:
                found |= {f"{first}.{number}" for number in range(int(low), int(high) + 1)}
    return found


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the functions of a module by qualified name."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{item.name}", item) for item in node.body if isinstance(item, ast.FunctionDef))
