"""Mutation score of verifier, log and penalty modules, on a seeded sample (hardening Q1).

    python -m benchmarks.mutants [--count 400] [--workers 2] [--state out/mutants.json]

Each mutant changes one operator, constant, condition or statement in a copy of the tree; it is killed if a test of its
module's list fails. The tests that run the changed line come first, those that run little else before others; the whole
list decides that a mutant survives, at once or, after `--quick`, in a run with `--again`, which tries survivors once
more. The state file keeps every result, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from coverage import CoverageData

FIRST: Final = 30  # tests that are tried before the whole list
ROOT: Final = Path(__file__).resolve().parents[1]
T: Final = "tests/protocol/"
RULES: Final = [
    T + "test_log_rules.py",
    T + "test_evidence.py",
    T + "test_session.py",
    T + "test_paths.py",
    T + "test_verify.py",
    "tests/adversaries",
]
LOG: Final = [
    T + "test_tree.py",
    T + "test_log.py",
    T + "test_limits.py",
    "tests/credible/test_log_cli.py",
    T + "test_verify.py",
    T + "test_paths.py",
]
MONEY: Final = [
    T + "test_penalties.py",
    "tests/credible/test_deterrence.py",
    T + "test_paths.py",
    T + "test_session.py",
]
TARGETS: Final = {
    "protocol/verify.py": [T + "test_evidence.py", T + "test_verify.py", T + "test_paths.py", "tests/adversaries"],
    "protocol/receipts.py": [T + "test_evidence.py", T + "test_verify.py", T + "test_paths.py", "tests/adversaries"],
    "protocol/evidence.py": [*RULES, "tests/credible/test_records.py"],
    "protocol/session.py": RULES,
    "protocol/state.py": RULES,
    "protocol/log/tree.py": [*LOG[:3], T + "test_vectors.py"],
    "protocol/log/note.py": [*LOG[1:], T + "test_vectors.py"],
    "protocol/log/policy.py": [*LOG[1:], T + "test_vectors.py"],
    "protocol/log/tiles.py": LOG[1:],
    "protocol/log/equivocation.py": LOG[2:],
    "protocol/log/store.py": [T + "test_storage.py"],
    "protocol/storage/heads.py": [T + "test_storage.py"],
    "protocol/penalties.py": MONEY[:3],
    "protocol/escrow.py": MONEY,
}
SWAPS: Final = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr,
}  # fmt: skip


def sites(tree: ast.Module) -> Iterator[tuple[ast.AST, str, int]]:
    """Yield what can be changed: a node, which of its fields, and the position in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from ((node, "ops", i) for i, op in enumerate(node.ops) if type(op) in SWAPS)
        elif isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS:
            yield node, "op", 0
        elif isinstance(node, ast.Constant) and type(node.value) in (int, bool):
            yield node, "value", 0
        elif isinstance(node, ast.If | ast.While | ast.IfExp):
            yield node, "test", 0
        elif (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)) or isinstance(node, ast.Raise):
            yield node, "drop", 0


def change(node: ast.AST, field: str, index: int) -> ast.AST:
    """Make the change in place; return the node to put in its stead."""
    if field == "ops" and isinstance(node, ast.Compare):
        node.ops[index] = SWAPS[type(node.ops[index])]()
    elif field == "op" and isinstance(node, ast.BinOp | ast.BoolOp):
        node.op = SWAPS[type(node.op)]()
    elif field == "value" and isinstance(node, ast.Constant):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    elif field == "test" and isinstance(node, ast.If | ast.While | ast.IfExp):
        node.test = ast.UnaryOp(op=ast.Not(), operand=node.test)
    elif field == "drop":
        return ast.Pass()
    return node


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        """Put the new node where the old one was."""
        return ast.copy_location(self.new, node) if node is self.old else self.generic_visit(node)


def replaced(tree: ast.Module, old: ast.AST, new: ast.AST) -> ast.Module:
    """Return a tree with a node in another's stead."""
    if old is not new:
        _Replace(old, new).visit(tree)
    return tree


def mutant(path: str, number: int) -> tuple[str, str]:
    """Return the source of a file's mutant and where it differs."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    node, field, index = list(sites(tree))[number]
    line, before = getattr(node, "lineno", 0), ast.unparse(node).split("\n")[0]
    new = change(node, field, index)
    return ast.unparse(
        ast.fix_missing_locations(replaced(tree, node, new))
    ), f"{path}:{line}: {before} -> {ast.unparse(new).split(chr(10))[0]}"


def sample(count: int, seed: int) -> list[tuple[str, int]]:
    """Return a seeded sample over all sites of all targets."""
    every = [
        (path, number)
        for path in TARGETS
        for number, _ in enumerate(sites(ast.parse((ROOT / path).read_text("utf-8"))))
    ]
    return random.Random(seed).sample(every, min(count, len(every)))


Lines = dict[tuple[str, int], list[str]]  # ids of the tests that run a line of a file, the most specific first


def covering(copy: Path, scratch: Path) -> Lines:
    """Run the lists once and return which tests run which lines."""
    data = scratch / "coverage"
    tests = sorted({test for tests in TARGETS.values() for test in tests})
    options = ["-n", "2", "--cov=protocol", "--cov-context=test", "--cov-report="]
    if not run_tests(copy, [*options, *tests], {"COVERAGE_FILE": str(data)}, limit=3600):
        raise SystemExit("the tests fail without any mutation")
    measured = CoverageData(str(data))
    measured.read()
    lines: dict[tuple[str, int], set[str]] = {}
    for path in TARGETS:
        for line, contexts in measured.contexts_by_lineno(str(copy / path)).items():
            lines[path, line] = {context.rpartition("|")[0] for context in contexts if context}
    size = Counter(test for tests in lines.values() for test in tests)
    return {place: sorted(tests, key=lambda test: (size[test], test)) for place, tests in lines.items()}


def run_tests(
    copy: Path, arguments: list[str], environment: dict[str, str] | None = None, *, limit: float = 400
) -> bool:
    """Run tests in a copy; return whether all pass. A run that no longer ends has not."""
    options = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--timeout", "120"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *arguments],
            cwd=copy, capture_output=True, timeout=limit, check=False,
            env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def survives(copy: Path, path: str, line: int, source: str, lines: Lines, *, quick: bool) -> bool:
    """Run the tests of a module on a mutant; if `quick`, only those that run its line, if there are any."""
    target = copy / path
    original = target.read_text("utf-8")
    target.write_text(source, "utf-8")
    first = lines.get((path, line), [])[:FIRST]
    try:
        if first and not run_tests(copy, first):
            return False
        return (quick and bool(first)) or run_tests(copy, TARGETS[path])
    finally:
        target.write_text(original, "utf-8")


def main() -> None:
    """Run what is not in the state file yet; print score and survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--state", type=Path, default=ROOT / "out" / "mutants.json")
    parser.add_argument("--quick", action="store_true", help="leave the whole list to a run with --again")
    parser.add_argument("--again", action="store_true", help="try survivors again")
    chosen = parser.parse_args()
    chosen.state.parent.mkdir(parents=True, exist_ok=True)
    results: dict[str, bool] = json.loads(chosen.state.read_text()) if chosen.state.exists() else {}
    jobs = [(*mutant(*item), item[0]) for item in sample(chosen.count, chosen.seed)]
    todo = [job for job in jobs if job[1] not in results or (chosen.again and results[job[1]])]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(chosen.workers) as pool:
        copies = []
        for number in range(chosen.workers):
            copies.append(Path(scratch) / str(number))
            skip = shutil.ignore_patterns(".venv*", ".git", "out", "runs", ".*_cache", "__pycache__", ".hypothesis")
            shutil.copytree(ROOT, copies[-1], ignore=skip)
        free = list(copies)
        # what is tried again has met the tests of its line before
        lines = covering(copies[0], Path(scratch)) if todo and (chosen.quick or not chosen.again) else {}

        def run(job: tuple[str, str, str]) -> None:
            copy = free.pop()
            try:
                line = int(job[1].removeprefix(f"{job[2]}:").partition(":")[0])
                results[job[1]] = survives(copy, job[2], line, job[0], lines, quick=chosen.quick)
            finally:
                free.append(copy)
            chosen.state.write_text(json.dumps(results, indent=0))

        list(pool.map(run, todo))
    left = [name for _, name, _ in jobs if results[name]]
    score, n = 1 - len(left) / len(jobs), len(jobs)
    margin = 1.96 * (score * (1 - score) / n) ** 0.5
    for name in left:
        print("survived", name)
    print(f"{n} mutants, {n - len(left)} killed: {score:.3f} +- {margin:.3f} (95 %)")


if __name__ == "__main__":
    main()
