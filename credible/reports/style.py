"""How figures look: one style, colours told apart by colour-blind eyes, text that follows a page's theme."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito 2008
MARKERS: Final = ("o", "s", "^", "D", "v", "P")
GREY: Final = "#8a8f98"
INK: Final = "#010203"  # replaced by the page's own text colour where a figure is part of one
FORMATS: Final = (".svg", ".pdf", ".png")

_STYLE: Final[dict[str, Any]] = {
    "figure.constrained_layout.use": True, "font.size": 9.5, "font.family": "DejaVu Sans", "axes.titlesize": 10.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "grid.linewidth": 0.6,
    "legend.frameon": False, "lines.linewidth": 1.6, "lines.markersize": 4, "svg.hashsalt": "credible",
    "svg.fonttype": "none", "text.parse_math": False,  # names are text, whatever is in them
     "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.titlelocation": "left",
}  # fmt: skip


def new(columns: int = 1, rows: int = 1, *, width: float = 7.2, height: float = 3.4) -> tuple[Figure, Any]:
    """Return a figure and its axes, in the house style; sizes in inches."""
    import matplotlib as mpl

    mpl.use("Agg")
    from cycler import cycler
    from matplotlib import pyplot as plt

    style: Any = {**_STYLE, "axes.prop_cycle": cycler(color=COLOURS)}
    mpl.rcParams.update(style)
    return plt.subplots(rows, columns, figsize=(width, height))


def _plain(figure: Figure) -> None:
    """Write numbers on logarithmic axes as numbers: powers would need the mathematics that names must not reach."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    for axes in figure.axes:
        for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
            if scale in ("log", "symlog"):
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
                axis.set_minor_formatter(NullFormatter())


def inline(figure: Figure, alt: str) -> str:
    """Return a figure as an SVG element for a page: text in the page's colour, a title for who cannot see it."""
    import matplotlib.pyplot as plt

    _plain(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    head, rest = text.split(">", 1)
    return f'{head} role="img" aria-label="{html.escape(alt)}">{rest}'


def save(figure: Figure, path: Path) -> None:
    """Write a figure to FILE.svg, FILE.pdf or FILE.png.

    Raises:
        ValueError: If the name ends otherwise.
    """
    import matplotlib.pyplot as plt

    if path.suffix not in FORMATS:
        raise ValueError(f"{path} is to hold a figure, wanted a name that ends in {', '.join(FORMATS)}")
    _plain(figure)
    buffer = io.BytesIO()
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}[path.suffix]
    figure.savefig(buffer, format=path.suffix[1:], metadata=metadata, dpi=150)
    plt.close(figure)
    data = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.replace(INK.encode(), b"#1c2430") if path.suffix == ".svg" else data)
