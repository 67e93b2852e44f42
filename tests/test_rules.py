"""Every rule of the specification is cited in the code and by a test, and a mutation shows that it is checked.

`python -m benchmarks.rules check` applies the mutations of tests/rules.toml; here the table itself is checked.
"""

from __future__ import annotations

import ast

from tests.conftest import ROOT
from tests.rules import cited, functions, numbers, read_rules


def citations(*folders: str) -> set[str]:
    return {
        rule
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for rule in cited(path.read_text(encoding="utf-8"))
    }


def test_every_rule_is_cited_where_it_is_enforced_and_by_a_test() -> None:
    rules = numbers()
    assert len(rules) == len(set(rules)) == 102
    assert set(rules) <= citations("protocol", "credible", "mechanisms")
    assert set(rules) <= citations("tests")


def test_citations_are_read_as_they_are_written() -> None:
    assert cited("spec 4.3") == {"4.3"}
    assert cited("(spec 4.1, 4.3 and 4.10; hardening 1.2)") == {"4.1", "4.3", "4.10"}
    assert cited("spec 9.3 to 9.5") == {"9.3", "9.4", "9.5"}
    assert cited('Finding("3.10", 4.11)') == {"3.10"}
    assert cited("version 4.3 of a thing") == set()


def test_the_table_names_rules_tests_and_code_that_exist() -> None:
    entries = read_rules()
    known = numbers()
    assert [entry.number for entry in entries] == known  # each once, in the order of the specification
    for entry in entries:
        file, _, name = entry.test.partition("::")
        tests = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
                     if isinstance(node, ast.FunctionDef)}  # fmt: skip
        assert name.partition("[")[0] in tests, entry.test
        text = (ROOT / entry.file).read_text(encoding="utf-8")
        assert entry.number in cited(text)
        code = dict(functions(ast.parse(text)))
        assert entry.function in code, f"{entry.file} has no {entry.function}"
        assert entry.before in text or entry.before in ast.unparse(code[entry.function]), entry
        assert entry.before != entry.after
