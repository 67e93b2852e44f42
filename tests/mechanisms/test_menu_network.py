"""Menu networks: gradient, weights, one network for many sizes, and that what they generate is an affine maximizer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mechanisms.evaluation import evaluate
from mechanisms.outcome import revenue
from mechanisms.training import MenuNetwork, Schedule, train
from mechanisms.training.loop import step_generator
from mechanisms.training.run import RunFolder
from mechanisms.valuations import Uniform

QUICK = Schedule(500, 512, 1024, 20, 300, 0.003, every=10**6)


def network(bidders: int, items: int, entries: int, *, weighted: bool = False, varying: bool = False) -> MenuNetwork:
    return MenuNetwork(
        bidders, items, entries, 3.0, step_generator(0, 4, 0), hidden=32, layers=1, weighted=weighted, varying=varying
    )


def soft_revenue(
    values: torch.Tensor, menu: torch.Tensor, boosts: torch.Tensor, weights: torch.Tensor, heat: float
) -> torch.Tensor:
    """AMA-5 with weights, by autograd, from the definition."""
    own = torch.einsum("n,bni,kni->bnk", weights, values, menu)
    total = own.sum(1) + boosts
    without = total[:, None] - own
    best = torch.logsumexp(heat * without, dim=2) / heat / weights
    paid = (torch.softmax(heat * total, dim=1)[:, None] * without).sum(2) / weights
    return (best - paid).sum(1).mean()


@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_equals_autograd_from_end_to_end(weighted: bool) -> None:
    objective = network(3, 2, 6, weighted=weighted)
    values = Uniform(3, 2).sample(200, step_generator(0, 1, 0)).float()
    got, surrogate = objective.gradients(values, 6.0)
    tensors = {name: tensor.clone().requires_grad_(True) for name, tensor in objective.parameters().items()}
    menu, boosts, weights = (part[0] for part in objective._generate(tensors, 3, 2))
    wanted = soft_revenue(values, menu, boosts, weights, 6.0)
    slopes = torch.autograd.grad(-wanted, list(tensors.values()), allow_unused=True)
    assert float(surrogate[0]) == pytest.approx(float(wanted.detach()), abs=1e-5)
    moved = 0
    for (name, tensor), slope in zip(tensors.items(), slopes, strict=True):
        expected = torch.zeros_like(tensor) if slope is None else slope
        assert torch.allclose(got[name], expected, atol=1e-5, rtol=1e-3), name
        moved += bool(expected.abs().max() > 0)
    assert moved > 10
    assert bool(got["weights.2.weight"].abs().max() > 0) is weighted


@pytest.mark.parametrize(("weighted", "floor"), [(False, 0.862), (True, 0.855)])
def test_a_network_reaches_the_published_revenue_on_2x2(weighted: bool, floor: float) -> None:  # AMenuNet: 0.8618
    objective = network(2, 2, 32, weighted=weighted)
    train(objective, Uniform(2, 2), QUICK, seed=0)
    mechanism = objective.mechanism()
    result = evaluate(mechanism, Uniform(2, 2), samples=100_000, seed=5, searched=200, draws=5)
    assert result.revenue > floor + 3 * result.revenue_se
    assert result.regret_found < 1e-12
    assert result.ir_violation < 1e-12
    assert bool((mechanism.weights == 1).all()) is not weighted


def test_one_network_serves_every_smaller_auction() -> None:
    objective = network(2, 2, 64, varying=True)
    train(objective, Uniform(2, 2), QUICK, seed=0)
    fresh = Uniform(2, 2).sample(50_000, step_generator(7, 9, 0))
    # the best known: 1/4, 0.549, 5/12, 0.874; second price without reserve earns 0, 0, 1/3, 2/3
    for (bidders, items), floor in {(1, 1): 0.245, (1, 2): 0.53, (2, 1): 0.405, (2, 2): 0.83}.items():
        earned = revenue(objective.mechanism(bidders=bidders, items=items).run(fresh[:, :bidders, :items])).mean()
        assert float(earned) > floor, (bidders, items)


class Killed(Exception):
    pass


def test_an_interrupted_network_resumes_bit_for_bit(tmp_path: Path) -> None:
    short = Schedule(4, 64, 64, 20, 300, 0.003, every=2)
    whole = network(2, 2, 8)
    train(whole, Uniform(2, 2), short, seed=0)

    def kill(step: int, validation: float) -> None:
        if step > 2:  # after the checkpoint of step 2 was written
            raise Killed

    with pytest.raises(Killed):
        train(network(2, 2, 8), Uniform(2, 2), short, seed=0, run=RunFolder(tmp_path / "run", {}), progress=kill)
    other = MenuNetwork(2, 2, 8, 1.0, step_generator(9, 4, 0), hidden=32, layers=1)  # its first values are replaced
    train(other, Uniform(2, 2), short, seed=0, run=RunFolder(tmp_path / "run", {}, resume=True))
    for name, tensor in whole.parameters().items():
        assert torch.equal(tensor, other.parameters()[name])


def test_networks_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        network(2, 2, 0)
    with pytest.raises(ValueError, match="no multiple of 4 heads"):
        MenuNetwork(2, 2, 4, 1.0, step_generator(0, 4, 0), hidden=30)
