"""What the appendix of credible-repeated-auctions says of stage auctions, beside what its tables print (table A.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from credible.reproduce import Published

TABLE: Final = "A.3"
WHOLE: Final = {"corollary-a01": "corollary A.0.1, BNIC revenue without regret"}
BOUNDS: Final = {
    "lemma-a1": "lemma A.1, ceiling of the regret",
    "lemma-a2": "lemma A.2, ceiling of the revenue",
    "theorem-a3": "theorem A.3, floor of the revenue",
    "proposition-a4": "proposition A.4, floor of the revenue",
}


def lines(rows: Sequence[Published]) -> list[Published]:
    """Return the lines of the bounds: for each network with printed figures for the whole and for profiles."""
    import msgspec

    wholes = {row.setting: row for row in rows if row.method == "algnet" and not row.profile and not row.trained_on}
    found: list[Published] = []
    for setting, whole in wholes.items():
        parts = [row for row in rows if row.setting == setting and row.method == "algnet" and row.profile]
        if not parts or whole.published_revenue is None or whole.published_regret is None:
            continue
        aggregate = (whole.published_revenue, whole.published_regret)
        common = msgspec.structs.replace(whole, table=TABLE, aggregate=aggregate, published_regret=None)
        found += [
            msgspec.structs.replace(common, method=name, label=label, published_revenue=None)
            for name, label in WHOLE.items()
        ]
        for part in parts:
            for name, label in BOUNDS.items():
                of_regret = name == "lemma-a1"
                found.append(
                    msgspec.structs.replace(
                        common,
                        method=name,
                        label=label,
                        profile=part.profile,
                        published_revenue=None if of_regret else part.published_revenue,
                        published_regret=part.published_regret if of_regret else None,
                    )
                )
    return found


def bound(method: str, aggregate: tuple[float, float], q: Sequence[float], optima: Sequence[float], at: int) -> float:
    """Return a bound on one stage auction.

    Args:
        method: Its name in `BOUNDS` or `WHOLE`.
        aggregate: Revenue and regret of the whole.
        q: Probabilities of the profiles in which anybody is present, then of nobody.
        optima: Greatest truthful revenues of these profiles, 0 for nobody.
        at: Index of the profile.
    """
    from mechanisms.evaluation import bounds

    revenue, regret = aggregate
    if method == "corollary-a01":
        return bounds.revenue_without_regret(revenue, regret)
    if method == "lemma-a1":
        return float(bounds.profile_regret_ceilings(regret, q)[at])
    if method == "lemma-a2":
        return float(bounds.profile_revenue_ceilings(regret, q, optima)[at])
    floors = bounds.profile_revenue_floors if method == "theorem-a3" else bounds.profile_revenue_floors_tight
    return float(floors(revenue, regret, q, optima)[at])
