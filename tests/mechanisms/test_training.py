"""Training: gradient, known revenue, determinism, resume bit for bit, refusals."""

from __future__ import annotations

import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from mechanisms.affine.fee import rivals_of
from mechanisms.affine.members import Demand, Member
from mechanisms.evaluation import evaluate
from mechanisms.evaluation.measures import mean_and_error
from mechanisms.outcome import revenue, utilities
from mechanisms.training import DeterministicAMA, FeeAMA, LotteryAMA, Schedule, SizeBoostAMA, TextbookAMA, loop, train
from mechanisms.training.loop import step_generator
from mechanisms.training.run import RunError, RunFolder, read_config, read_weights
from mechanisms.training.size_boost import Classes
from mechanisms.training.surrogate import CHUNK, menu_slopes
from mechanisms.valuations import LinearMixture, Uniform

SHORT = Schedule(40, 64, 128, 10, 50, 0.05, every=10)


def shares_of(objective: LotteryAMA, start: int) -> torch.Tensor:
    """AMA-4 and AMA-7, from the definition."""
    logits = objective.logits[start]
    if objective.demand == "additive":
        return torch.softmax(logits, dim=1)[:, : objective.bidders]
    by_item, by_bidder = torch.nn.functional.softplus(logits), torch.nn.functional.softplus(objective.choices[start])
    rows = []
    for i in range(objective.bidders):
        one = by_item[:, i] / by_item.sum(1)
        two = by_bidder[:, : objective.items, i] / by_bidder[:, :, i].sum(1, keepdim=True)
        rows.append(torch.minimum(one, two))
    return torch.stack(rows, dim=1)


def reference(objective: LotteryAMA, values: torch.Tensor, temperature: float, start: int) -> torch.Tensor:
    """AMA-5 by autograd, from the definition."""
    menu = torch.cat([shares_of(objective, start), torch.zeros(1, objective.bidders, objective.items)])
    boosts = torch.cat([objective.boosts[start], torch.zeros(1)])
    own = torch.einsum("bni,kni->bnk", values, menu)
    total = own.sum(1) + boosts
    rivals = torch.logsumexp(temperature * (total[:, None] - own), dim=2) / temperature
    chosen = torch.softmax(temperature * total, dim=1)
    paid = (chosen * ((objective.bidders - 1) * total + boosts)).sum(1)
    return (rivals.sum(1) - paid).mean()


@pytest.mark.parametrize("demand", ["additive", "unit"])
@pytest.mark.parametrize("bidders", [1, 2, 3])
def test_the_written_gradient_equals_autograd(bidders: int, demand: Demand) -> None:
    entries = 500 if bidders == 3 else 5
    objective = LotteryAMA(bidders, 2, entries, 1.0, step_generator(0, 4, 0), demand=demand, starts=2)
    objective.boosts.copy_(torch.randn(objective.boosts.shape, generator=step_generator(0, 4, 1)) * 0.1)
    values = Uniform(bidders, 2).sample(300, step_generator(0, 1, 0)).float()
    got, surrogate = objective.gradients(values, 7.0)
    for tensor in objective.parameters().values():
        tensor.requires_grad_(True)
    each = [reference(objective, values, 7.0, start) for start in range(2)]
    (-torch.stack(each).sum()).backward()  # type: ignore[no-untyped-call]
    part = values[: CHUNK // (2 * (objective.boosts.shape[1] + 1))]  # the revenue is that of the first part
    assert (len(part) < len(values)) is (bidders == 3)
    first = [float(reference(objective, part, 7.0, start).detach()) for start in range(2)]
    assert surrogate.tolist() == pytest.approx(first, abs=1e-4)
    for name, tensor in objective.parameters().items():
        assert tensor.grad is not None
        assert torch.allclose(got[name], tensor.grad, atol=2e-6), name


def test_the_slopes_of_weighted_menus_equal_autograd() -> None:
    generator = step_generator(0, 4, 0)
    given = torch.softmax(torch.randn(2, 7, 4, 2, generator=generator), dim=2)[:, :, :3]
    menu = torch.cat([given, torch.zeros(2, 1, 3, 2)], dim=1).requires_grad_(True)
    boosts = (torch.randn(2, 8, generator=generator) * 0.1).requires_grad_(True)
    weights = (torch.rand(2, 3, generator=generator) + 0.5).requires_grad_(True)
    values = Uniform(3, 2).sample(300, step_generator(0, 1, 0)).float()
    own = torch.einsum("sn,bni,skni->bsnk", weights, values, menu)
    total = own.sum(2) + boosts
    without = total[:, :, None] - own
    rivals = torch.logsumexp(6.0 * without, dim=3) / 6.0 / weights
    chosen = torch.softmax(6.0 * total, dim=2)
    paid = (without / weights[:, :, None]).sum(2)
    expected = (rivals.sum(2) - (chosen * paid).sum(2)).mean(0)
    expected.sum().backward()  # type: ignore[no-untyped-call]
    got = menu_slopes(values, menu.detach(), boosts.detach(), 6.0, weights.detach())
    assert torch.allclose(got.revenue, expected.detach(), atol=1e-5)
    for slope, tensor in ((got.menu, menu), (got.boosts, boosts), (got.weights, weights)):
        assert slope is not None
        assert tensor.grad is not None
        assert torch.allclose(slope, tensor.grad, atol=2e-6)


@pytest.mark.parametrize(("bidders", "items", "classes"), [(1, 3, "sorted"), (2, 3, "sorted"), (3, 2, "ordered")])
def test_size_boost_surrogate_and_gradient_equal_enumeration(bidders: int, items: int, classes: Classes) -> None:
    objective = SizeBoostAMA(bidders, items, [0.3, 0.6], classes)
    objective.boosts.add_(torch.rand(objective.boosts.shape, generator=step_generator(0, 4, 1)) * 0.2)
    values = Uniform(bidders, items).sample(200, step_generator(0, 1, 0)).float()
    got, surrogate = objective.gradients(objective.tables(values), 9.0)
    words = torch.tensor(list(product(range(bidders + 1), repeat=items)))
    held = torch.stack([words == i + 1 for i in range(bidders)], dim=1).float()
    numbers = {tuple(sizes): k for k, sizes in enumerate(objective.vectors.tolist())}
    of_word = torch.tensor([int(objective.class_of[numbers[tuple(s)]]) for s in held.sum(2).long().tolist()])
    own = torch.einsum("kim,bim->bik", held, values)
    boosts = objective.boosts.clone().requires_grad_(True)
    losses = []
    for start in range(2):

        def by_class(value: torch.Tensor) -> torch.Tensor:
            best = [value[:, of_word == c].amax(1) for c in range(boosts.shape[1])]
            return torch.stack(best, dim=1)

        welfare = by_class(own.sum(1)) + boosts[start]
        rivals = [by_class(own.sum(1) - own[:, i]) + boosts[start] for i in range(bidders)]
        chosen = torch.softmax(9.0 * welfare, dim=1)
        soft = torch.stack([torch.logsumexp(9.0 * rival, dim=1) / 9.0 for rival in rivals]).sum(0)
        losses.append((soft - (chosen * ((bidders - 1) * welfare + boosts[start])).sum(1)).mean())
    (-torch.stack(losses).sum()).backward()  # type: ignore[no-untyped-call]
    assert surrogate.tolist() == pytest.approx([float(loss.detach()) for loss in losses], abs=1e-4)
    assert boosts.grad is not None
    assert torch.allclose(got["boosts"], boosts.grad, atol=2e-6)


def test_unit_demand_menus_give_nobody_more_than_one_item() -> None:
    for entries, start in ((0, 4.0), (30, 2.0)):
        objective = LotteryAMA(2, 3, entries, start, step_generator(5, 4, 0), demand="unit")
        train(objective, Uniform(2, 3), SHORT, seed=5)
        menu = objective.mechanism().menu
        assert float(menu.sum(2).max()) <= 1 + 1e-12
        assert float(menu.sum(1).max()) <= 1 + 1e-12


def test_the_textbook_surrogate_is_as_printed() -> None:
    objective = TextbookAMA(2, 2, 4, 1.0, step_generator(0, 4, 0))
    values = Uniform(2, 2).sample(50, step_generator(0, 1, 0)).float()
    got, surrogate = objective.gradients(values, 6.0)
    menu = torch.cat([shares_of(objective, 0), torch.zeros(1, 2, 2)])
    total = 0.0
    for profile in values:
        own = torch.stack([(menu[:, i] * profile[i]).sum(1) for i in range(2)], dim=1)
        welfare = own.sum(1)  # boosts are zero at the start
        chosen = torch.softmax(6.0 * welfare, dim=0)
        for i in range(2):
            without = welfare - own[:, i]
            total += float((torch.softmax(6.0 * without, dim=0) * without).sum() - (chosen * without).sum())
    assert float(surrogate[0]) == pytest.approx(total / 50, abs=1e-5)
    assert not objective.logits.requires_grad
    assert set(got) == {"logits", "boosts"}


def test_a_lottery_menu_of_unit_demand_reaches_the_best_known_boosts() -> None:  # 0.714123, docs/notation.md, VAL
    objective = LotteryAMA(2, 2, 0, 5.0, step_generator(0, 4, 0), demand="unit")
    start = objective.mechanism().menu
    assert float((start - start.round()).abs().max()) < 0.03  # deterministic, as good as
    train(objective, Uniform(2, 2), Schedule(400, 128, 2048, 20, 300, 0.03, every=400), seed=0)
    mean, error = mean_and_error(
        revenue(objective.mechanism().run(Uniform(2, 2).sample(400_000, step_generator(9, 9, 0))))
    )
    assert mean > 0.714 - 0.004 - 4 * error


@pytest.mark.parametrize("member", ["combinatorial", "bundling", "mbarp", "vvca"])
def test_the_gradient_of_tied_boosts_equals_autograd(member: Member) -> None:
    objective = DeterministicAMA(2, 2, member, [0.3, 0.6], step_generator(0, 4, 0), spread=0.3)
    values = Uniform(2, 2).sample(300, step_generator(0, 1, 0)).float()
    got, surrogate = objective.gradients(values, 7.0)
    objective.terms.requires_grad_(True)
    own = torch.einsum("bni,kni->bnk", values, objective.menu.float())
    each = []
    for start in range(2):
        boosts = objective.incidence.float() @ objective.terms[start]
        total = own.sum(1) + boosts
        rivals = torch.logsumexp(7.0 * (total[:, None] - own), dim=2) / 7.0
        chosen = torch.softmax(7.0 * total, dim=1)
        each.append((rivals.sum(1) - (chosen * (total + boosts)).sum(1)).mean())
    (-torch.stack(each).sum()).backward()  # type: ignore[no-untyped-call]
    assert objective.terms.grad is not None
    assert surrogate.tolist() == pytest.approx([float(one.detach()) for one in each], abs=1e-4)
    assert torch.allclose(got["terms"], objective.terms.grad, atol=2e-6)


@pytest.mark.parametrize(
    ("member", "best"),
    [("bundling", 637 / 810), ("mbarp", 0.870320962), ("vvca", 0.870320962), ("combinatorial", 0.874403079)],
)
def test_members_reach_their_known_revenue_on_2x2(member: Member, best: float) -> None:  # docs/notation.md, VAL
    objective = DeterministicAMA(2, 2, member, [0.45, 0.55], step_generator(1, 4, 0))
    schedule = Schedule(400, 256, 4096, 20, 600, 0.03, every=400)
    result = train(objective, Uniform(2, 2), schedule, seed=1)
    auction = objective.mechanism(result.best)
    mean, error = mean_and_error(revenue(auction.run(Uniform(2, 2).sample(400_000, step_generator(9, 9, 0)))))
    assert best - 0.002 - 4 * error < mean < best + 4 * error
    assert set(auction.menu.flatten().tolist()) == {0.0, 1.0}


def test_size_boosts_reach_the_known_revenue_of_2x2() -> None:  # docs/notation.md, VAL
    objective = SizeBoostAMA(2, 2, [0.45, 0.55])
    result = train(objective, Uniform(2, 2), Schedule(300, 2048, 2048, 30, 600, 0.02, every=300), seed=0)
    paid = revenue(objective.mechanism(result.best).run(Uniform(2, 2).sample(400_000, step_generator(9, 9, 0))))
    mean, error = mean_and_error(paid)
    assert 0.8744 - 5 * error < mean < 0.874404 + 4 * error  # the optimum of the class is 0.874403


@pytest.mark.parametrize(("bidders", "items", "classes"), [(2, 3, "sorted"), (3, 2, "ordered")])
def test_own_values_are_those_of_each_classs_best_allocation(bidders: int, items: int, classes: Classes) -> None:
    objective = SizeBoostAMA(bidders, items, [0.5], classes)
    values = Uniform(bidders, items).sample(100, step_generator(0, 1, 0)).float()
    got = objective.fee_tables(values)[:, 1 + bidders :]
    assert torch.equal(objective.fee_tables(values)[:, : 1 + bidders], objective.tables(values))
    words = torch.tensor(list(product(range(bidders + 1), repeat=items)))
    held = torch.stack([words == i + 1 for i in range(bidders)], dim=1).float()
    numbers = {tuple(sizes): k for k, sizes in enumerate(objective.vectors.tolist())}
    of_word = torch.tensor([int(objective.class_of[numbers[tuple(s)]]) for s in held.sum(2).long().tolist()])
    own = torch.einsum("kim,bim->bik", held, values)
    for c in range(got.shape[2]):
        mine = own[:, :, of_word == c]
        best = mine.sum(1).argmax(1)
        assert torch.allclose(got[:, :, c], mine[torch.arange(100), :, best])


def test_the_soft_outcome_hardens_into_the_mechanism() -> None:
    objective = SizeBoostAMA(2, 3, [0.5])
    values = Uniform(2, 3).sample(400, step_generator(0, 1, 0)).float()
    utility, payment = objective.soft_outcome(objective.fee_tables(values), 1e5)
    outcome = objective.mechanism().run(values.double())
    assert torch.allclose(payment[0].double(), outcome.payment, atol=1e-3)
    assert torch.allclose(utility[0].double(), utilities(outcome, values.double()), atol=1e-3)


def test_a_trained_fee_earns_what_no_boost_can_and_stays_truthful(tmp_path: Path) -> None:
    values = LinearMixture(2, 0.8)
    schedule = Schedule(250, 1024, 1024, 30, 300, 0.003, 0.01, every=250)
    objective = FeeAMA(SizeBoostAMA(2, 2, [0.2, 0.45]), step_generator(0, 4, 0), hidden=16)
    result = train(objective, values, schedule, seed=0, run=RunFolder(tmp_path / "fee", {}))
    plain = SizeBoostAMA(2, 2, [0.2, 0.45])
    train(plain, values, Schedule(250, 1024, 1024, 30, 300, 0.02, every=250), seed=0)
    auction = objective.mechanism(result.best, values.scale)
    got = evaluate(auction, values, samples=60_000, seed=4, searched=500, draws=10)
    below = evaluate(plain.mechanism(), values, samples=60_000, seed=4, searched=2, draws=0)
    assert got.revenue > below.revenue + 0.02
    assert got.regret_found < 1e-12
    assert got.ir_violation < 1e-12
    leaving = auction.opting_out(values.sample(5000, step_generator(1, 7, 0))).double().mean()
    assert 0 < float(leaving) < 0.5
    stored = read_weights(tmp_path / "fee")
    assert torch.equal(stored["fee_first"][0], objective.layers["first"][result.best])
    profiles = values.sample(500, step_generator(2, 7, 0))
    assert torch.equal(stored["fee_centre"][0], objective.centre[result.best])
    inputs = rivals_of(profiles / values.scale).float()
    assert abs(float(((inputs - objective.centre[0]) / objective.spread[0]).mean())) < 0.1
    with torch.no_grad():
        raw = objective._fees((profiles / values.scale).float())[result.best] * values.scale
    assert torch.allclose(raw.double(), auction.network.fees(profiles), atol=1e-4)  # the scale is folded in


def test_fees_need_rivals() -> None:
    with pytest.raises(ValueError, match="at least 2 bidders"):
        FeeAMA(SizeBoostAMA(1, 2, [0.5]), step_generator(0, 4, 0))
    with pytest.raises(ValueError, match="no starting reserve"):
        SizeBoostAMA(2, 2, [])


def test_lottery_ama_reaches_0_868_on_2x2_uniform_within_10_s() -> None:
    torch.set_num_threads(1)
    objective, values = LotteryAMA(2, 2, 0, 5.0, step_generator(0, 4, 0)), Uniform(2, 2)
    started = time.perf_counter()
    train(objective, values, Schedule(600, 128, 2048, 20, 300, 0.03, every=600), seed=0)
    seconds = time.perf_counter() - started
    result = evaluate(objective.mechanism(), values, samples=400_000, seed=77, searched=200, draws=5)
    assert result.revenue > 0.868, result
    assert (
        result.revenue < 0.8824
    )  # above a preprint's upper bound on every DSIC mechanism the evaluation would be wrong
    assert result.ir_violation < 1e-12
    assert result.regret_found < 1e-12
    assert seconds < 60  # 1 s on a quiet core; the stated 10 s is measured in benchmarks/, not here


def test_one_seed_one_result_and_another_seed_another() -> None:
    ends = []
    for seed in (1, 1, 2):
        objective = LotteryAMA(2, 2, 20, 2.0, step_generator(seed, 4, 0))
        train(objective, Uniform(2, 2), SHORT, seed=seed)
        ends.append(objective.logits.clone())
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_pools_hand_out_whole_profiles_and_change_when_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "POOL", 16)

    def draw(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        values = torch.rand(count, 2, generator=generator)
        return values, values.sum(1)

    pools = loop.Pools(draw, 0, torch.device("cpu"))  # a GPU's, but nothing in it needs one
    seen = []
    for step in range(2 * loop.REUSED):
        values, sums = pools(16, step_generator(0, 1, step))
        assert torch.equal(sums, values.sum(1))
        seen.append({float(item) for item in sums})
    first, second = set().union(*seen[: loop.REUSED]), set().union(*seen[loop.REUSED :])
    assert 8 < len(first) <= 16
    assert not first & second
    again = loop.Pools(draw, 0, torch.device("cpu"))
    assert {float(item) for item in again(16, step_generator(0, 1, 0))[1]} == seen[0]
    for one in (pools, again):
        one.close()


class Killed(Exception):
    pass


@pytest.mark.parametrize("stop", [10, 30])
def test_an_interrupted_run_resumes_bit_for_bit(tmp_path: Path, stop: int) -> None:  # hardening T1
    config: dict[str, Any] = {"name": "x"}

    def objective() -> LotteryAMA:
        return LotteryAMA(2, 2, 20, 2.0, step_generator(3, 4, 0))

    whole = objective()
    train(whole, Uniform(2, 2), SHORT, seed=3, run=RunFolder(tmp_path / "whole", config))

    def kill(step: int, validation: float) -> None:
        if step > stop:  # after the checkpoint of `stop` was written
            raise Killed

    with pytest.raises(Killed):
        train(objective(), Uniform(2, 2), SHORT, seed=3, run=RunFolder(tmp_path / "cut", config), progress=kill)
    resumed = objective()
    train(resumed, Uniform(2, 2), SHORT, seed=3, run=RunFolder(tmp_path / "cut", config, resume=True))
    assert torch.equal(whole.logits, resumed.logits)
    assert torch.equal(whole.boosts, resumed.boosts)
    assert torch.equal(read_weights(tmp_path / "cut")["logits"], whole.logits)
    assert len(list((tmp_path / "cut").glob("checkpoint-*"))) == 2


def test_run_folders_refuse_clearly(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = RunFolder(folder, {"a": 1})
    with pytest.raises(FileExistsError):
        RunFolder(folder, {"a": 1})
    with pytest.raises(RunError, match="started with a 1, not 2"):
        RunFolder(folder, {"a": 2}, resume=True)
    with pytest.raises(RunError, match="no run folder"):
        read_config(tmp_path / "none")
    with pytest.raises(RunError, match="no weights"):
        read_weights(folder)
    objective = LotteryAMA(1, 1, 0, 1.0, step_generator(0, 4, 0))
    train(objective, Uniform(1, 1), Schedule(2, 8, 8, 1, 1, 0.1, every=1), seed=0, run=run)
    newest = sorted(folder.glob("checkpoint-*"))[-1]
    data = newest.read_bytes()
    newest.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(RunError, match="do not have the hash"):
        run.restore(objective.parameters(), torch.optim.Adam(objective.parameters().values()), {})


@pytest.mark.parametrize("field", ["iterations", "batch_start", "temperature_end", "learning_rate"])
def test_schedules_are_positive(field: str) -> None:
    good = {
        "iterations": 1,
        "batch_start": 1,
        "batch_end": 1,
        "temperature_start": 1,
        "temperature_end": 1,
        "learning_rate": 1,
    }
    with pytest.raises(ValueError, match=f"{field} is 0"):
        Schedule(**{**good, field: 0})


def test_a_space_too_large_to_enumerate_is_refused() -> None:
    with pytest.raises(ValueError, match="give a menu size"):
        LotteryAMA(3, 10, 0, 1.0, step_generator(0, 4, 0))
