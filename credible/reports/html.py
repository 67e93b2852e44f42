"""The one-file HTML report: verdict first, then what it rests on (design section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Final

from credible.reports.blocks import Part, Picture

WORST: Final = ("invalid", "deviation", "malformed", "inconclusive", "holds", "")
WORDS: Final = {
    "holds": "holds", "deviation": "deviation proved", "invalid": "invalid proof", "inconclusive": "no verdict",
    "malformed": "unreadable", "": "not judged",
}  # fmt: skip
MARKS: Final = {"holds": "✓", "deviation": "✕", "invalid": "✕", "inconclusive": "?", "malformed": "!", "": "·"}


def build_report(title: str, parts: Sequence[Part]) -> str:
    """Return the HTML of a report.

    Args:
        title: Heading.
        parts: What it is about; what is worst comes first in the summary.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["drawn"] = Markup  # figures are drawn here; matplotlib escapes names
    environment.tests["picture"] = lambda block: isinstance(block, Picture)
    template = environment.from_string(resources.files("credible.reports").joinpath("page.html").read_text("utf-8"))
    judged = sorted(parts, key=lambda part: WORST.index(part.state))
    return template.render(title=title, parts=parts, judged=judged, words=WORDS, marks=MARKS)
