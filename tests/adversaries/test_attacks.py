"""Every attack of the catalogue is caught, prevented or open, as docs/spec.md, section 10, says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from credible.simulation.attacks import CAUGHT, OPEN, PREVENTED, Attack, Stage, attacks

SPEC = (Path(__file__).resolve().parents[2] / "docs" / "spec.md").read_text("utf-8")
ROWS = {
    match[1]: (match[2], match[3])
    for match in re.finditer(r"^\| (A\d+) \|.*\| ([^|]+) \| (?:`(\w+)`|`\w+`, `\w+`)[^|]*\|$", SPEC, re.MULTILINE)
}
# Of rows that are prevented only with a beacon, the offline default is what is played here.
STATUS = {"D": CAUGHT, "S": CAUGHT, "P": PREVENTED, "o": OPEN}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("attacks"))


def test_the_catalogue_has_one_adversary_for_every_row_of_the_specification() -> None:
    assert [item.id for item in attacks()] == [f"A{number}" for number in range(1, 41)]
    assert set(ROWS) == {item.id for item in attacks()}


@pytest.mark.parametrize("item", attacks(), ids=lambda item: f"{item.id}-{item.name}")
def test_attack(item: Attack, stage: Stage) -> None:
    seen = item.run(stage)
    assert seen.baseline, "the same run without the attack does not pass"
    assert seen.evidence
    assert re.search(rf"\*\*{re.escape(seen.rule)}\b|\| {re.escape(seen.rule)} \|", SPEC), seen.rule
    allowed = {OPEN, STATUS[ROWS[item.id][0][0]]} if item.id == "A12" else {STATUS[ROWS[item.id][0][0]]}
    assert seen.status in allowed
    assert ROWS[item.id][1] in (item.name, None)
