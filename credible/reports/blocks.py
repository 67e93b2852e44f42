"""What a report is made of: sections of text, facts, tables and figures; the template knows nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        head: Column names.
        rows: Cells as text.
        caption: What it shows.
        numeric: Columns that hold numbers, set to the right.
        folded: Whether it is shown only when opened, as the table behind a figure is.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numeric: frozenset[int] = frozenset()
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure and the table behind it.

    Attributes:
        svg: An SVG element, drawn here.
        caption: What it shows and how to read it.
        behind: Its numbers.
    """

    svg: str
    caption: str
    behind: Table | None = None


@dataclass(slots=True)
class Section:
    """A part of a report.

    Attributes:
        title: Heading.
        lead: Paragraphs before everything else.
        facts: Name and value, in order.
        blocks: Tables and figures, in order.
        notes: Small print.
    """

    title: str
    lead: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    blocks: list[Table | Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Part:
    """One thing that a report is about: a session, a run, a reproduction, a mechanism.

    Attributes:
        name: What it is called.
        state: "holds", "deviation", "invalid", "inconclusive", "malformed", or "" where nothing is judged.
        headline: The verdict in one sentence.
        reasons: Why, in plain sentences.
        sections: In order.
        tone: State whose colour and mark it gets, where that is another.
    """

    name: str
    state: str
    headline: str
    reasons: list[str]
    sections: list[Section]
    tone: str = ""


def numbers(*columns: int) -> frozenset[int]:
    """Return the columns that hold numbers."""
    return frozenset(columns)
