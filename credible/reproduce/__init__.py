"""Tables of the papers, ours beside theirs: what `credible reproduce` runs."""

from __future__ import annotations

import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from credible import settings as store
from credible.records.values import participation_model, valuation_model
from credible.reproduce import theory
from credible.runs import NETWORKS, REGRETNETS, objective_of, schedule_of
from protocol.errors import MalformedError

if TYPE_CHECKING:
    import torch

    from mechanisms.outcome import Mechanism
    from mechanisms.valuations import ValuationModel

    Trained = dict[tuple[str, str, int], tuple[Mechanism, float]]  # by setting, method and seed, with its seconds

FOLDER: Final = Path(__file__).parent
PUBLISHED: Final = "published"  # a row of the paper that nothing here trains
UNWITHHELD: Final = "never-withheld"  # the "Myerson" of auction-mech's evaluation
CLASSIC: Final = ("vcg", "item-wise-myerson", "ironed-myerson", "grand-bundle", "straight-jacket", UNWITHHELD)
TEXTBOOK: Final = "textbook"
FORCED: Final = "ca-ama-no-opt-out"
TICKETS: Final = ("winning-ticket", "small-random")
PROBABILITY: Final = "probability"  # of a profile: nothing is run
REPAIRED: Final = "repaired"  # the network of this method before it, as `credible repair` makes it truthful
REPAIRED_OF: Final = "regretnet-kept"
THEORY: Final = (*theory.WHOLE, *theory.BOUNDS)
SPECIAL: Final = (
    *CLASSIC,
    REPAIRED,
    TEXTBOOK,
    FORCED,
    *TICKETS,
    *THEORY,
    PROBABILITY,
    PUBLISHED,
)  # without a recipe of their own
AUCTION_MECH: Final = "auction-mech"
PAPER_STEPS: Final = 400_000  # of regretnet-local: 80 epochs of 640,000 profiles in batches of 128
ALGNET: Final = "algnet"
ALGNET_PUBLISHED: Final = "algnet-published"  # at the paper's sizes
QUICK, FULL = 200_000, 1_000_000  # fresh profiles of an evaluation
LARGE: Final = 2**31  # states x bidders x items x profiles: larger programmes see fewer profiles when quick


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a paper's table, and what we run beside it.

    `published_dsic` says whether theirs is exactly truthful where the regret they print does not. `profile`, one digit
    a seat, evaluates only rounds with exactly these bidders; `trained_on` names another setting to train on;
    `aggregate` is the revenue and regret of the whole that a bound starts from.
    """

    table: str
    setting: str
    method: str
    label: str
    published_revenue: float | None = None
    published_regret: float | None = None
    published_dsic: bool | None = None
    profile: str = ""
    trained_on: str = ""
    aggregate: tuple[float, float] | None = None
    published_probability: float | None = None
    note: str = ""


class Paper(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A paper's tables, and what has to be said of them."""

    paper: str
    title: str
    notes: list[str]
    row: list[Published]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the reproduction; figures in units of value, none where nothing was run or printed.

    Attributes:
        table: Table or figure of the paper.
        setting: Name of the setting.
        method: What was run; "published" where nothing was.
        label: What the line is called.
        dsic: "exact" or "approx", of ours or, where nothing was run, of theirs.
        revenue: Mean revenue of the hard mechanism on fresh draws.
        revenue_se: Its standard error.
        regret: Of ours.
        regret_kind: "exact_zero" or "searched_lower_bound".
        regret_largest: Largest gain from a lie that was found; of networks.
        regret_search: How it was searched, where that is not what `evaluate` does.
        regret_as_printed: What auction-mech's evaluation would call the regret of ours: another quantity.
        ir_loss: Mean over profiles of the sum of truthful bidders' losses; 0 where nobody can lose.
        entries_used: Of a menu, how many entries 100,000 profiles choose.
        published_revenue: Theirs.
        published_regret: Theirs.
        profile: Who is present, one digit a seat; everybody's rounds if empty.
        trained_on: Setting of the training if it is another.
        probability: Of the profile.
        published_probability: Theirs.
        seconds: Of our training.
        seed: Of our training.
        samples: Profiles of the evaluation.
        note: What has to be said of the line.
    """

    table: str
    setting: str
    method: str
    label: str
    dsic: str
    revenue: float | None = None
    revenue_se: float | None = None
    regret: float | None = None
    regret_kind: str | None = None
    regret_largest: float | None = None
    regret_search: str | None = None
    regret_as_printed: float | None = None
    ir_loss: float | None = None
    entries_used: int | None = None
    published_revenue: float | None
    published_regret: float | None
    profile: str = ""
    trained_on: str = ""
    probability: float | None = None
    published_probability: float | None = None
    seconds: float | None = None
    seed: int | None = None
    samples: int | None = None
    note: str


def papers() -> list[str]:
    """Return the names of the papers."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Paper:
    """Return a paper's tables; raise MalformedError if there is no such paper."""
    if name not in papers():
        raise MalformedError(f"paper {name!r} is not known, wanted one of {', '.join(papers())}")
    paper = msgspec.convert(tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8")), Paper)
    return msgspec.structs.replace(paper, row=[*paper.row, *theory.lines(paper.row)])


def reproduce(
    lines: list[Published],
    *,
    full: bool,
    seeds: list[int],
    started: Callable[[Published], None] = lambda line: None,
    device: torch.device | None = None,
) -> Iterator[Row]:
    """Run what stands beside each line and yield the rows as they are ready.

    Args:
        lines: Lines of a paper's tables.
        full: Evaluate on 10^6 profiles and train the papers' surrogate at the paper's size; else on fewer, with a
            small menu and our budget.
        seeds: Of the training, a row for each; the evaluation's draws never depend on them.
        started: Called before each line.
        device: Where to train, the CPU if left out.
    """
    trained: Trained = {}
    optima: dict[tuple[str, str], float] = {}  # by setting and profile: what bounds start from
    for line in lines:
        started(line)
        if line.method in (PUBLISHED, PROBABILITY):
            yield _theirs(line)
        elif line.method in THEORY:
            yield _bounded(line, trained, optima, full=full, seed=seeds[0], device=device)
        else:
            for seed in seeds[:1] if line.method in CLASSIC else seeds:
                yield _run(line, trained, full=full, seed=seed, device=device)


def _theirs(line: Published) -> Row:
    stated = line.published_dsic if line.published_dsic is not None else line.published_regret == 0
    fields = msgspec.structs.asdict(line)
    del fields["published_dsic"], fields["aggregate"]
    return Row(dsic="exact" if stated else "approx", probability=_probability(line), **fields)


def profile_texts(present: torch.Tensor) -> list[str]:
    """Return participation profiles, boolean of shape (profiles, bidders), as texts of one digit a seat."""
    return ["".join(str(int(bit)) for bit in row) for row in present.tolist()]


def _probability(line: Published) -> float | None:
    """Return how often a line's profile comes; None if it has none."""
    model = participation_model(store.load(line.setting)) if line.profile else None
    if model is None:
        return None
    profiles, probabilities = model.profiles()
    listed = profile_texts(profiles)
    return float(probabilities[listed.index(line.profile)]) if line.profile in listed else 0.0


def _bounded(
    line: Published,
    done: Trained,
    optima: dict[tuple[str, str], float],
    *,
    full: bool,
    seed: int,
    device: torch.device | None,
) -> Row:
    """Return a bound on a stage auction, with our exactly DSIC revenues as the optima."""
    if line.aggregate is None:
        raise MalformedError(f"{line.setting}: {line.method} has no aggregate to start from")
    model = participation_model(store.load(line.setting))
    if model is None:
        raise MalformedError(f"{line.setting} has no participation, so no profiles to bound")
    present, probabilities = model.profiles()
    listed = profile_texts(present)
    for profile in listed if line.profile else ():
        if (line.setting, profile) not in optima:
            ours = msgspec.structs.replace(line, method="aggregated", profile=profile, trained_on="")
            earned = _run(ours, done, full=full, seed=seed, device=device).revenue if "1" in profile else 0.0
            optima[line.setting, profile] = earned or 0.0
    best = [optima.get((line.setting, profile), 0.0) for profile in listed]
    at = listed.index(line.profile) if line.profile else 0
    value = theory.bound(line.method, line.aggregate, probabilities.tolist(), best, at)
    row = _theirs(line)
    if line.method == "lemma-a1":
        return msgspec.structs.replace(row, dsic="approx", regret=value)
    return msgspec.structs.replace(row, dsic="approx", revenue=value)


def _values_of(line: Published, setting: store.Setting) -> ValuationModel:
    """Return the values that a line is evaluated on: of its setting, or of the rounds with its profile."""
    import torch

    from mechanisms.participation import Profiles, WithParticipation

    if not line.profile:
        return valuation_model(setting)
    if len(line.profile) != setting.bidders or set(line.profile) - {"0", "1"}:
        raise MalformedError(f"{setting.name}: profile {line.profile!r}, wanted {setting.bidders} digits 0 or 1")
    everybody = valuation_model(msgspec.structs.replace(setting, participation={}))
    present = torch.tensor([[digit == "1" for digit in line.profile]])
    return WithParticipation(everybody, Profiles(present, torch.ones(1, dtype=torch.float64)))


def _run(line: Published, done: Trained, *, full: bool, seed: int, device: torch.device | None = None) -> Row:
    import torch

    from credible.reproduce.single_item import printed_regret
    from mechanisms.affine import AffineMaximizer, SizeBoosted, WithFee
    from mechanisms.aggregated import Aggregated
    from mechanisms.evaluation import evaluate
    from mechanisms.training.loop import step_generator

    torch.set_num_threads(1)
    setting = store.load(line.setting)
    values = _values_of(line, setting)
    method = "ca-ama" if line.method == FORCED else line.method
    key = (line.trained_on or line.setting, method, seed)
    if key not in done:
        learned_from = store.load(key[0])
        model = valuation_model(learned_from)
        begun = time.perf_counter()
        if method == REPAIRED:
            network = (key[0], REPAIRED_OF, seed)
            if network not in done:
                learned = _train(REPAIRED_OF, learned_from, model, full=full, seed=seed, device=device)
                done[network] = learned, time.perf_counter() - begun
                begun = time.perf_counter()
            built = _repaired(done[network][0], model, seed=seed)
        elif method in CLASSIC:
            built = _classic(method, learned_from, model)
        elif method in TICKETS:
            built = _ticket(method, learned_from, model, full=full, seed=seed)
        else:
            built = _train(method, learned_from, model, full=full, seed=seed, device=device)
        done[key] = built, time.perf_counter() - begun
    mechanism, seconds = done[key]
    if line.method == FORCED and isinstance(mechanism, WithFee):
        mechanism = replace(mechanism, opt_out=False)
    base = mechanism.base if isinstance(mechanism, WithFee) else mechanism
    if isinstance(base, Aggregated):
        base = base.stages[-1]
    states = len(base.boosts) * base.bidders * base.items if isinstance(base, SizeBoosted) else 1
    samples = FULL if full else max(20_000, min(QUICK, LARGE // states))
    if mechanism.truthful:  # the search looks for defects only
        result = evaluate(mechanism, values, samples=samples, seed=12345, searched=200, draws=5)
    else:
        result = evaluate(mechanism, values, samples=samples, seed=12345, searched=1000, draws=100)
    audited = _audit(mechanism, values, full=full) if method in NETWORKS else {}
    as_printed, notes = None, [line.note] if line.note else []
    if values.items == 1 and method in (AUCTION_MECH, "vcg"):
        as_printed = printed_regret(mechanism, values, seed=12345)
        notes.append(f"their measure of regret gives {as_printed:.4f}")
    trained = line.method not in CLASSIC
    used = None
    if isinstance(mechanism, AffineMaximizer):
        used = len(Counter(mechanism.chosen(values.sample(100_000, step_generator(12345, 1, 0))).tolist()))
    return msgspec.structs.replace(
        _theirs(line),
        dsic="exact" if mechanism.truthful else "approx",
        revenue=result.revenue,
        revenue_se=result.revenue_se,
        regret=audited.get("regret", result.regret),
        regret_kind=result.regret_kind,
        regret_largest=audited.get("largest"),
        regret_search=audited.get("search"),
        regret_as_printed=as_printed,
        note="; ".join(notes),
        ir_loss=result.ir_loss,
        entries_used=used,
        seconds=round(seconds, 2) if trained else None,
        seed=seed if trained else None,
        samples=samples,
    )


def _audit(mechanism: Mechanism, values: ValuationModel, *, full: bool) -> dict[str, Any]:
    """Return the auditor's regret of a network, in units of value, and how it was searched."""
    from mechanisms.evaluation import audit_values

    audit = audit_values(mechanism, values, profiles=1000 if full else 200, seed=12345)
    unfinished = ", unfinished" if audit.unfinished else ""
    tried = audit.curve[-1].reports
    search = f"auditor, {tried:,} reports for each of {audit.profiles} profiles and bidders{unfinished}"
    return {"regret": audit.regret, "largest": max(audit.largest), "search": search}


def _repaired(network: Mechanism, values: ValuationModel, *, seed: int) -> Mechanism:
    """Return the repair that earns most on a sample."""
    from mechanisms.outcome import revenue
    from mechanisms.repair import repairs
    from mechanisms.training.loop import step_generator

    sample = values.sample(50_000, step_generator(seed, 17, 0))
    made = repairs(network, values, seed=seed).values()
    return max(made, key=lambda auction: float(revenue(auction.run(sample)).mean()))


def _classic(method: str, setting: store.Setting, values: ValuationModel) -> Mechanism:
    from credible.reproduce.single_item import NeverWithheld, monopoly_reserve
    from mechanisms.affine.members import grand_bundle
    from mechanisms.classic import SecondPrice, best_reserves, separate_myerson, straight_jacket, vcg
    from mechanisms.training.loop import step_generator
    from mechanisms.valuations import Uniform

    if method == "vcg":
        return vcg(setting.bidders, setting.items, setting.demand)
    if method == "straight-jacket":
        if setting.bidders != 1 or values != Uniform(1, setting.items):
            raise MalformedError(
                f"{setting.name}: the straight-jacket auction is for one bidder, values i.i.d. U[0, 1]"
            )
        return straight_jacket(setting.items)
    sample = values.sample(100_000, step_generator(0, 5, 0))
    if method == "ironed-myerson":
        return separate_myerson(sample)
    if method == "grand-bundle":
        return grand_bundle(setting.bidders, setting.items, float(best_reserves(sample.sum(2, keepdim=True))[0]))
    if method == UNWITHHELD:
        return NeverWithheld(setting.bidders, monopoly_reserve(values))
    return SecondPrice(setting.bidders, best_reserves(sample))


def _train(
    method: str,
    setting: store.Setting,
    values: ValuationModel,
    *,
    full: bool,
    seed: int,
    device: torch.device | None = None,
) -> Mechanism:
    from mechanisms.training import Schedule, TextbookAMA, train
    from mechanisms.training.loop import step_generator

    if method == TEXTBOOK:
        entries = 4096 if full else min(256, 16 * (setting.bidders + 1) ** setting.items)
        objective = TextbookAMA(
            setting.bidders, setting.items, entries, 1.0, step_generator(seed, 4, 0), demand=setting.demand,
            enumerated=False,
        )  # fmt: skip
        size = 2**15 if full else 512
        schedule = Schedule(9000 if full else 600, size, size, 100, 100, 0.01, every=100_000)
        return objective.mechanism(train(objective, values, schedule, seed=seed).best, values.scale)
    if method == ALGNET and full:
        method = ALGNET_PUBLISHED
    ours = objective_of(setting, method, seed)
    schedule = replace(schedule_of(setting, method), every=100_000)
    if method in REGRETNETS and full:
        schedule = replace(schedule, iterations=PAPER_STEPS)
    return ours.mechanism(train(ours, values, schedule, seed=seed, device=device).best, values.scale)


def _ticket(method: str, setting: store.Setting, values: ValuationModel, *, full: bool, seed: int) -> Mechanism:
    """Train the entries that a large random menu ends up using from their first values, or as many others."""
    import torch

    from mechanisms.training import LotteryAMA, Schedule, train
    from mechanisms.training.loop import step_generator

    def random(entries: int, number: int) -> LotteryAMA:
        generator = step_generator(number, 4, 0)
        return LotteryAMA(
            setting.bidders, setting.items, entries, 3.0, generator, demand=setting.demand, enumerated=False
        )

    schedule = Schedule(9000 if full else 600, 512, 2048, 20, 300, 0.03, every=100_000)
    large = random(2048 if full else 256, 0)  # one parent for every seed, as in the paper
    first = {name: tensor.clone() for name, tensor in large.parameters().items()}
    train(large, values, schedule, seed=0)
    chosen = torch.unique(large.mechanism(0, values.scale).chosen(values.sample(100_000, step_generator(12345, 1, 0))))
    kept = chosen[chosen < len(large.boosts[0])]  # the empty allocation is in every menu
    small = random(len(kept), 1000 + seed)
    if method == "winning-ticket":
        for name, tensor in small.parameters().items():
            tensor.copy_(first[name][:, kept])
    return small.mechanism(train(small, values, schedule, seed=seed + 1).best, values.scale)
