"""What the documents show runs, and what they cite exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def test_the_ten_lines_of_the_readme_run_and_print_what_they_say() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "[[65536], [0], [0]] [700.0, 0.0, 0.0]",
        "True A second-price auction with a reserve fi",
    ]


@pytest.mark.parametrize("name", ["train_and_certify.py", "one_verified_session.py"])
def test_examples_run(name: str) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "examples" / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "certified: True" in done.stdout or ("verdict holds" in done.stdout and "verdict deviation" in done.stdout)


def cited(folders: tuple[str, ...], pattern: str) -> set[str]:
    found = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            found |= set(re.findall(pattern, path.read_text(encoding="utf-8")))
    return found


def test_every_cited_rule_and_equation_exists() -> None:
    spec = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")
    rules = set(re.findall(r"(?:\*\*|\| )([1-9][0-9]?\.[0-9]+)\b", spec))
    assert len(rules) > 100
    for rule in cited(("protocol", "credible", "mechanisms", "tests"), r"spec ([1-9][0-9]?\.[0-9]+)"):
        assert rule in rules, f"spec {rule} is cited and not in docs/spec.md"
    notation = (ROOT / "docs" / "notation.md").read_text(encoding="utf-8")
    for label in cited(("mechanisms",), r"\b((?:AMA|OUT|SIZE|FEE)-[0-9])\b"):
        assert f"- {label} " in notation, f"{label} is cited and not in docs/notation.md"
    hardening = (ROOT / "docs" / "hardening.md").read_text(encoding="utf-8")
    for clause in cited(("protocol", "credible", "mechanisms", "tests"), r"hardening ([1-8]\.[0-9]+)"):
        assert f"**{clause}" in hardening, f"hardening {clause} is cited and not in docs/hardening.md"


def test_links_of_the_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_public_names_are_listed_and_exist() -> None:
    import importlib

    for path in sorted(ROOT.glob("*/**/__init__.py")):
        package = path.relative_to(ROOT).parent
        if package.parts[0] not in ("protocol", "mechanisms", "credible"):
            continue
        module = importlib.import_module(".".join(package.parts))
        for name in getattr(module, "__all__", []):
            assert hasattr(module, name), f"{module.__name__}.{name}"


def test_no_path_of_a_machine_in_the_repository() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/**/*.py"), Path(ROOT / "Makefile")]:
        if ".venv" not in path.parts:
            assert not re.search(r"/(home|root|work)/[a-z]", path.read_text(encoding="utf-8")), path
