"""What a protocol does to a market: questions answered by playing it, one function each.

Every answer holds rows for a table (and `--json`); `credible.reports.figures` draws them. Money is in grid units, or in
units of g, the most that one round can gain (spec 9.11), where it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

from credible.simulation.agents import Terms, Values, terms
from credible.simulation.campaign import Plan, Totals, play
from credible.simulation.deterrence import steady_epochs
from protocol.artifact import Header
from protocol.penalties import requirement

FACTORS: Final = tuple(
    Fraction(text) for text in ("0", "1/1000", "1/200", "1/50", "1/20", "1/10", "1/5", "1/2", "1", "2")
)
CHEATS: Final = ("inflate:1", "inflate:0.1", "random:1", "threshold", "optimal")
SHILLS: Final = (0, 10, 20, 30, 40, 50, 60, 70, 80)
LONG: Final = 400  # epochs that a worst case looks at
CHANCES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question is asked about.

    Attributes:
        name: Of the mechanism, for people.
        artifact: Its bytes.
        header: What it says of itself.
        rules: The announced terms.
        values: What values are drawn from.
        bidders: See `agents.bidder_agents`.
        secret: 32 bytes that decide everything.
        sessions: Markets to play for each figure.
        processes: Child processes; 1 plays in this one.
        context: The public integers of every round.
    """

    name: str
    artifact: bytes
    header: Header
    rules: Terms
    values: Values
    bidders: str
    secret: bytes
    sessions: int
    processes: int = 1
    context: tuple[int, ...] = ()

    def play(self, *, auctioneer: str = "honest", rules: Terms | None = None, **changed: Any) -> Totals:
        """Play the market with another auctioneer, other terms, bidders or values."""
        plan = Plan(
            self.artifact, rules or self.rules, changed.get("values", self.values),
            changed.get("bidders", self.bidders), auctioneer, self.secret, self.sessions, context=self.context,
        )  # fmt: skip
        return play(plan, processes=self.processes)[0]

    @property
    def bits(self) -> int:
        """Units of shares."""
        return self.header.share_bits


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question.

    Attributes:
        question: Its name.
        title: What the figure shows, for people.
        rows: Its figures.
        notes: What to know when reading them.
    """

    question: str
    title: str
    rows: list[dict[str, Any]]
    notes: list[str]


def deterrence(asked: Asked) -> Answer:
    """Return what each way of cheating earns as the penalty grows from nothing to twice what spec 9 asks for."""
    rules, rows = asked.rules, []
    full = replace(rules, penalty=_required(rules))
    cheats = CHEATS if rules.gains == "kept" else CHEATS[:-1]  # the programme is for gains that are kept
    for cheat in cheats:
        for factor in FACTORS:
            totals = asked.play(auctioneer=cheat, rules=replace(full, penalty=int(full.penalty * factor)))
            rows.append({"strategy": cheat, "factor": float(factor), **_profit(asked, totals, rules.gain_bound)})
    free = terms("default", asked.header, rules.rounds)
    totals = asked.play(auctioneer="optimal", rules=free)
    rows.append({"strategy": "optimal, default market", "factor": 0.0, **_profit(asked, totals, rules.gain_bound)})
    notes = [
        f"the penalty at 1 is what spec 9 asks for: {full.penalty / (1 << asked.bits):,.0f} grid units, "
        f"{full.penalty / rules.gain_bound:.1f} times the most that one round can gain",
        "optimal: dynamic programme against the announced rules, sees every bid, sells each item at the highest bid",
        "default market: neither log nor audit (the paper's algorithm 2)",
    ]
    return Answer("deterrence", f"What cheating earns, {_rules_text(rules)}", rows, notes)


def region(asked: Asked) -> Answer:
    """Return where the best cheat gains, by penalty and by each number of the announced rules, and the bound of spec 9.

    Gains are those of the worst case, g in every round, so that the bound is met and not merely kept.
    """
    rules, rows = asked.rules, []
    for varied, places in _grid(rules).items():
        for place, changed in places:
            needed = _required(changed) / rules.gain_bound
            for share in range(1, 31):
                penalty = needed * share / 20
                value = worst_case(changed, penalty)
                rows.append(
                    {
                        "varied": varied, "at": place, "penalty_over_g": penalty, "required_over_g": needed,
                        "profit_over_g": value,
                    }
                )  # fmt: skip
    notes = ["every round gains g: the worst case that the bound is for", "the line is what spec 9 asks for"]
    return Answer("region", f"Where cheating pays, around {_rules_text(rules)}", rows, notes)


def _grid(rules: Terms) -> dict[str, list[tuple[float, Terms]]]:
    """Return terms that differ in one number each: the audit rate; T, or L with the epoch."""
    steps = (1, 2, 3, 5, 8, 12, 20, 30)
    if rules.preset == "published":
        counts = sorted({max(1, round(rules.rounds * share)) for share in (0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0)})
        rates = [(k / rules.rounds, replace(rules, k=k)) for k in counts]
        lengths = sorted({max(rules.k, round(rules.rounds * step / 8)) for step in steps})
        return {
            "share of rounds audited, k / T": rates,
            "rounds T": [(float(n), replace(rules, rounds=n, epoch=n, lag=n)) for n in lengths],
        }
    return {
        "chance of an audit, q": [(n / 20, replace(rules, q=Fraction(n, 20))) for n in range(1, 20)],
        "rounds of an epoch, lag L": [(float(n), replace(rules, epoch=n, lag=n)) for n in steps if n <= rules.rounds],
    }


def worst_case(rules: Terms, penalty_over_g: float) -> float:
    """Return what the best cheat earns, in units of g, where every round gains g (spec 9.3, 9.7).

    Args:
        rules: The announced terms; their own penalty does not count.
        penalty_over_g: The penalty, in units of g.
    """
    if rules.preset == "published":  # nothing is learnt before the end: a number of rounds is the whole strategy
        some = {0, rules.rounds, *(int(rules.rounds ** (step / 80)) for step in range(81))}
        return max(w - float(rules.detection(w)) * penalty_over_g for w in some)
    last = max(rules.epochs - LONG, 0)  # more epochs than that change nothing any more
    return steady_epochs(rules.missed_by_epoch(last), penalty_over_g)


def detection(asked: Asked) -> Answer:
    """Return how often w deviating rounds are caught, played and by theory (spec 9.3, 9.5)."""
    rules, rows = asked.rules, []
    counts = sorted({max(1, min(rules.rounds, round(rules.rounds ** (step / 8)))) for step in range(9)})
    for count in counts:
        totals = asked.play(auctioneer=f"random:{count}")
        found = totals.sums["caught"] / totals.sessions
        theory = rules.detection(count)
        spread = (float(theory) * (1 - float(theory)) / totals.sessions) ** 0.5
        rows.append({"deviating": count, "caught": found, "theory": float(theory), "se": spread})
    notes = ["a deviation that gains nothing is no deviation: a round whose honest outcome earns all is left honest"]
    return Answer("detection", f"Chance to be caught, {_rules_text(rules)}", rows, notes)


def audit_cost(asked: Asked, *, audit: Fraction, capital: Fraction) -> Answer:
    """Return what auditing costs against what deterring by deposit costs, by the rate (spec 9.9).

    Args:
        asked: The market.
        audit: Cost of one audit, in units of g.
        capital: Cost of holding a deposit for the whole session, as a share of it.
    """
    if audit < 0 or capital < 0:
        raise ValueError(f"an audit costs {audit} g, capital {capital}: wanted at least 0 each")
    rules, rows = asked.rules, []
    for step in range(1, 51):
        rate = Fraction(step, 50)
        k = max(1, round(rules.rounds * rate))
        needed = requirement(rules.preset, g=10**9, rounds=rules.rounds, k=k, q=rate, lag=rules.lag, gains=rules.gains)
        deposit = needed.penalty / 10**9
        audits = float(rate * rules.rounds * audit)
        rows.append(
            {"rate": float(rate), "deposit_over_g": deposit, "audits": audits, "capital": deposit * float(capital),
             "cost": audits + deposit * float(capital)}
        )  # fmt: skip
    best = min(rows, key=lambda row: float(row["cost"]))
    notes = [
        f"one audit costs {float(audit):g} g, holding a deposit for the session {float(capital):.2%} of it",
        f"cheapest: {best['rate']:.0%} of the rounds, a deposit of {best['deposit_over_g']:.1f} g",
    ]
    return Answer("audit-cost", f"What honesty costs, {_rules_text(rules)}", rows, notes)


def learning(asked: Sequence[Asked]) -> Answer:
    """Return revenue, welfare and how learners bid over time, for each mechanism, against truthful bidders."""
    rows = []
    for one in asked:
        for bidders in ("truthful", one.bidders):
            totals = one.play(bidders=bidders)
            played = totals.sums["rounds"]
            points = len(totals.series["running"])
            ratios = [
                sum(agent[point] for agent in totals.bids) / max(sum(agent[point] for agent in totals.values), 1.0)
                for point in range(points)
            ]
            unit = 1 << one.bits
            rows.append(
                {
                    "mechanism": one.name,
                    "bidders": bidders,
                    "revenue": totals.sums["revenue"] / unit / played,
                    "welfare": totals.sums["welfare"] / unit / played,
                    "bid_over_value": ratios,
                    "utility": [earned / unit / played for earned in totals.utility],
                    "revenue_over_time": [
                        revenue / max(running, 1.0) / unit
                        for revenue, running in zip(totals.series["revenue"], totals.series["running"], strict=True)
                    ],
                }
            )
            if one.bidders == "truthful":
                break
    notes = ["a learner that finds truth best bids its values: the ratio tends to 1"]
    return Answer("learning", "Learning bidders", rows, notes)


def shills(asked: Sequence[Asked]) -> Answer:
    """Return what a blind shill on the last seat gains the auctioneer, by the height of its bid."""
    rows = []
    for one in asked:
        others = ",".join(["truthful"] * (one.header.bidders - 1))
        if not others:
            raise ValueError(f"{one.name} has one seat: there is no room for a shill")
        base = one.play(bidders=f"{others},late:100")  # the seat stays empty
        without, error = base.mean("revenue", one.bits)
        rounds = one.rules.rounds
        for level in SHILLS:
            totals = one.play(bidders=f"{others},shill:{level}")
            mean, se = totals.mean("revenue", one.bits)
            welfare = totals.mean("welfare", one.bits)[0]
            rows.append(
                {"mechanism": one.name, "level": level / 100, "revenue": mean / rounds,
                 "revenue_without": without / rounds, "gain": (mean - without) / rounds,
                 "gain_se": (se**2 + error**2) ** 0.5 / rounds, "welfare": welfare / rounds}
            )  # fmt: skip
    notes = [
        "a shill bids the same on every item, a share of the highest value; what it buys stays unsold",
        "where a shill gains, the mechanism was not optimal: a better one has the reserve in its own rules",
    ]
    return Answer("shills", "What a blind shill gains", rows, notes)


def participation(asked: Sequence[Asked]) -> Answer:
    """Return revenue and welfare as each bidder comes with a growing chance, for each mechanism."""
    rows = []
    for one in asked:
        if one.values.path is not None:
            raise ValueError(f"{one.name}: the setting says who comes; ask without it")
        for chance in CHANCES:
            totals = one.play(values=replace(one.values, participation=chance))
            row: dict[str, Any] = {"mechanism": one.name, "chance": chance}
            for name in ("revenue", "welfare"):
                mean, error = totals.mean(name, one.bits)
                row[name], row[f"{name}_se"] = mean / one.rules.rounds, error / one.rules.rounds
            rows.append(row)
    return Answer("participation", "What uncertain participation costs", rows, ["each bidder comes independently"])


def settlement(asked: Asked, *, auctioneer: str) -> Answer:
    """Return what lies in deposit and escrow, and what is paid, as a market goes on."""
    totals = asked.play(auctioneer=auctioneer)
    series, one, rows = totals.series, 1 << asked.bits, []
    points, cumulative = len(series["running"]), 0.0
    each = asked.rules.rounds / points
    for point in range(points):
        cumulative += series["revenue"][point]
        running = series["running"][point] / each
        rows.append(
            {"round": round(point * each), "running": running / totals.sessions,
             "deposit": series["deposit"][point] / each / totals.sessions / one,
             "escrow": series["held"][point] / each / totals.sessions / one,
             "revenue": cumulative / totals.sessions / one,
             "penalties": sum(series["penalties"][: point + 1]) / totals.sessions / one,
             "paid_back": sum(series["paid back"][: point + 1]) / totals.sessions / one}
        )  # fmt: skip
    notes = ["means over markets; escrow is empty after every settled epoch, its mean over rounds is shown"]
    return Answer("settlement", f"Settlement over time, auctioneer {auctioneer}", rows, notes)


def best_cheats(asked: Asked, factors: Sequence[Fraction] = (Fraction(1, 2), Fraction(1), Fraction(2))) -> Answer:
    """Return the profit of the best cheater at shares of the required penalty: on the market, and at worst.

    At worst every round gains g, the bound; the dynamic programme's value is then exact.
    """
    rules, rows = asked.rules, []
    required = _required(rules)
    for factor in factors:
        changed = replace(rules, penalty=int(required * factor))
        totals = asked.play(auctioneer="optimal", rules=changed)
        worst = worst_case(rules, changed.penalty / rules.gain_bound)
        rows.append(
            {"preset": rules.preset, "factor": float(factor), **_profit(asked, totals, rules.gain_bound),
             "worst_case_over_g": worst}
        )  # fmt: skip
    return Answer("best", f"The best cheater, {_rules_text(rules)}", rows, [])


def _required(rules: Terms) -> int:
    return requirement(
        rules.preset, g=rules.gain_bound, rounds=rules.rounds, k=rules.k, q=rules.q, lag=rules.lag, gains=rules.gains
    ).penalty


def _profit(asked: Asked, totals: Totals, g: int) -> dict[str, float]:
    mean, error = totals.mean("profit", asked.bits)
    unit = g / (1 << asked.bits)
    return {
        "profit": mean,
        "profit_se": error,
        "profit_over_g": mean / unit,
        "profit_over_g_se": error / unit,
        "deviations": totals.sums["deviations"] / totals.sessions,
        "halted": totals.sums["caught"] / totals.sessions,
    }


def _rules_text(rules: Terms) -> str:
    if rules.preset == "published":
        return f"published: {rules.k} of {rules.rounds} rounds audited at the end"
    return f"prompt: each round audited with chance {rules.q}, halt after epochs of {rules.epoch}"


QUESTIONS: Final[Mapping[str, Callable[..., Answer]]] = {
    "deterrence": deterrence, "region": region, "detection": detection, "audit-cost": audit_cost,
    "learning": learning, "shills": shills, "participation": participation, "settlement": settlement,
    "best": best_cheats,
}  # fmt: skip
