"""Training: gradient, known revenue, determinism, resume bit for bit, refusals."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mechanisms.evaluation import evaluate
from mechanisms.training import LotteryAMA, Schedule, train
from mechanisms.training.loop import step_generator
from mechanisms.training.run import RunError, RunFolder, read_config, read_weights
from mechanisms.valuations import Uniform

SHORT = Schedule(40, 64, 128, 10, 50, 0.05, every=10)


def reference(objective: LotteryAMA, values: torch.Tensor, temperature: float) -> torch.Tensor:
    """AMA-5 by autograd, from the definition."""
    shares = torch.softmax(objective.logits, dim=1)[:, : objective.bidders]
    menu = torch.cat([shares, torch.zeros(1, objective.bidders, objective.items)])
    boosts = torch.cat([objective.boosts, torch.zeros(1)])
    own = torch.einsum("bni,kni->bnk", values, menu)
    total = own.sum(1) + boosts
    rivals = torch.logsumexp(temperature * (total[:, None] - own), dim=2) / temperature
    chosen = torch.softmax(temperature * total, dim=1)
    paid = (chosen * ((objective.bidders - 1) * total + boosts)).sum(1)
    return (rivals.sum(1) - paid).mean()


@pytest.mark.parametrize("bidders", [1, 2, 3])
def test_the_written_gradient_equals_autograd(bidders: int) -> None:
    objective = LotteryAMA(bidders, 2, 500 if bidders == 3 else 5, 1.0, step_generator(0, 4, 0))
    objective.boosts.copy_(torch.randn(len(objective.boosts), generator=step_generator(0, 4, 1)) * 0.1)
    values = Uniform(bidders, 2).sample(300, step_generator(0, 1, 0)).float()
    got, surrogate = objective.gradients(values, 7.0)
    objective.logits.requires_grad_(True)
    objective.boosts.requires_grad_(True)
    loss = -reference(objective, values, 7.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert surrogate == pytest.approx(-float(loss.detach()), abs=1e-4)
    for name, tensor in objective.parameters().items():
        assert tensor.grad is not None
        assert torch.allclose(got[name], tensor.grad, atol=2e-6), name


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
    with pytest.raises(RunError, match="other settings: a"):
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
        run.restore(objective.parameters(), torch.optim.Adam(objective.parameters().values()))


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
