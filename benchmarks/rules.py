"""For each rule of the specification a mutation of the code that a test citing the rule notices.

    python -m benchmarks.rules find [--only 4.3 ...]     look for mutations where tests/rules.toml has none
    python -m benchmarks.rules check [--only 4.3 ...]    apply each and see its test fail

A mutation is one change (see `benchmarks.mutants`) in a function that cites the rule, nearest to the citation first;
the tests are those that cite it.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.mutants import ROOT, change, replaced, sites
from tests.rules import TABLE, Rule, cited, functions, numbers, read_rules

TRIES: Final = 5
WORKERS: Final = 2
SLOW: Final = ("tests/faults", "tests/fuzz", "tests/machines")


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of one file."""

    path: str
    function: str
    before: str
    after: str
    source: str
    distance: int


def mutations(path: str, rule: str) -> Iterator[Mutation]:
    """Yield the changes of a file's functions that cite a rule."""
    text = (ROOT / path).read_text("utf-8")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if rule in cited(line)]
    for name, function in functions(ast.parse(text)):
        near = [line for line in lines if function.lineno <= line <= (function.end_lineno or 0)]
        if not near:
            continue
        for number, (site, _, _) in enumerate(sites(ast.parse(text))):
            place = getattr(site, "lineno", 0)
            if not function.lineno <= place <= (function.end_lineno or 0):
                continue
            tree = ast.parse(text)
            node, field, index = list(sites(tree))[number]
            before = ast.unparse(node).split("\n")[0]
            new = change(node, field, index)
            after = ast.unparse(new).split("\n")[0]
            source = ast.unparse(ast.fix_missing_locations(replaced(tree, node, new)))
            yield Mutation(path, name, before, after, source, min(abs(place - line) for line in near))


def tests_of(rule: str) -> list[str]:
    """Return the ids of the test functions that cite a rule."""
    found = []
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        name = file.relative_to(ROOT).as_posix()
        if name.startswith(SLOW) or name == "tests/test_rules.py":
            continue
        text = file.read_text("utf-8")
        lines = text.splitlines()
        module = cited(ast.get_docstring(ast.parse(text)) or "")
        own = []
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
                if rule in cited("\n".join(lines[first - 1 : node.end_lineno])):
                    own.append(f"{name}::{node.name}")
        if not own and rule in cited(text) - module:
            own = [name]  # in a table that a test is parametrised with
        found += own
    return found


class Bench:
    """A copy of the tree in which mutations are tried."""

    def __init__(self, folder: Path) -> None:
        self.copy = folder / "copy"
        skip = shutil.ignore_patterns(".venv*", ".git", "out", "runs", ".*_cache", "__pycache__", ".hypothesis")
        shutil.copytree(ROOT, self.copy, ignore=skip)

    def killed(self, path: str, source: str, tests: list[str]) -> str:
        """Return the id of a test that notices a mutation; empty if none does."""
        target = self.copy / path
        original = target.read_text("utf-8")
        target.write_text(source, "utf-8")
        options = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--timeout", "120", "-rf"]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *options, *tests], cwd=self.copy, capture_output=True, text=True,
                timeout=300, check=False,
                env={**os.environ, "PYTHONPATH": str(self.copy), "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return ""
        finally:
            target.write_text(original, "utf-8")
        match = re.search(r"^FAILED (\S+?::[^\[\s]+)(\[.*?\])?(?: - |$)", done.stdout, re.MULTILINE)
        return (match[1] + (match[2] or "")) if done.returncode == 1 and match else ""


def find(bench: Bench, rule: str) -> Rule | None:
    """Look for a mutation of a rule's code that one of its tests notices."""
    tests = tests_of(rule)
    sources = sorted(path.relative_to(ROOT).as_posix() for name in ("protocol", "credible") for path in
                     (ROOT / name).rglob("*.py"))  # fmt: skip
    options = [mutation for path in sources for mutation in mutations(path, rule)]
    for mutation in sorted(options, key=lambda item: (item.distance, item.path))[:TRIES]:
        if test := bench.killed(mutation.path, mutation.source, tests):
            return Rule(rule, test, mutation.path, mutation.function, mutation.before, mutation.after)
    return None


def check(bench: Bench, rule: Rule) -> bool:
    """Apply a rule's mutation and see whether its test fails."""
    for mutation in mutations(rule.file, rule.number):
        if (mutation.function, mutation.before, mutation.after) == (rule.function, rule.before, rule.after):
            return bool(bench.killed(rule.file, mutation.source, [rule.test]))
    text = (ROOT / rule.file).read_text("utf-8")
    if text.count(rule.before) != 1:  # an entry written by hand names a piece of the source
        return False
    return bool(bench.killed(rule.file, text.replace(rule.before, rule.after), [rule.test]))


def check_all(wanted: list[str]) -> list[str]:
    """Apply the table's mutations, two at a time; return the rules whose test does not notice."""
    rules = {rule.number: rule for rule in read_rules()}
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(WORKERS) as pool:
        free = [Bench(Path(scratch) / str(number)) for number in range(WORKERS)]

        def noticed(number: str) -> bool:
            bench = free.pop()
            try:
                return number in rules and check(bench, rules[number])
            finally:
                free.append(bench)

        left = []
        for number, good in zip(wanted, pool.map(noticed, wanted), strict=True):
            print(number, "noticed" if good else "NOT noticed", flush=True)
            left += [] if good else [number]
    return left


def find_missing(wanted: list[str], *, again: bool) -> None:
    """Look for mutations of rules that the table lacks, or of all wanted ones; keep each at once."""
    rules = {rule.number: rule for rule in read_rules()} if TABLE.exists() else {}
    order = {item: place for place, item in enumerate(numbers())}
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch))
        for number in wanted:
            if number in rules and not again:
                continue
            rule = find(bench, number)
            print(number, rule, flush=True)
            if rule is not None:
                rules[number] = rule
                TABLE.write_text("\n".join(rules[n].text for n in sorted(rules, key=order.__getitem__)), "utf-8")


def main() -> int:
    """Find or check; the exit status is 1 if a mutation is not noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=("find", "check"))
    parser.add_argument("--only", nargs="*", default=[])
    chosen = parser.parse_args()
    wanted = chosen.only or list(numbers())
    if chosen.job == "find":
        find_missing(wanted, again=bool(chosen.only))
        return 0
    left = check_all(wanted)
    print(f"{len(wanted) - len(left)} of {len(wanted)} mutations noticed")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
