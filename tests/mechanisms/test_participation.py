"""Participation models: listed against drawn, chains, estimation, stratified samples."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechanisms.participation import (
    Counts,
    Independent,
    Markov,
    ParticipationModel,
    Profiles,
    estimate_profiles,
    stratified,
    tweaked,
)
from mechanisms.training.loop import step_generator
from mechanisms.valuations import Uniform

SCENARIO_1 = Profiles(
    torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0]]).bool(), torch.tensor([0.6, 0.3, 0.09, 0.01], dtype=torch.float64)
)
MODELS: list[ParticipationModel] = [
    SCENARIO_1,
    Independent(torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)),
    Counts(torch.tensor([0.1, 0.2, 0.4, 0.3], dtype=torch.float64)),
    Markov(torch.tensor([0.1, 0.3], dtype=torch.float64), torch.tensor([0.4, 0.1], dtype=torch.float64)),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_what_is_listed_is_what_is_drawn(model: ParticipationModel) -> None:
    profiles, probabilities = model.profiles()
    assert float(probabilities.sum()) == pytest.approx(1)
    count = 200_000
    drawn = model.sample(count, step_generator(1, 0, 0))
    assert drawn.shape == (count, model.bidders)
    for profile, chance in zip(profiles, probabilities.tolist(), strict=True):
        share = float((drawn == profile).all(1).double().mean())
        assert abs(share - chance) < 4.5 * (chance * (1 - chance) / count) ** 0.5 + 1e-9


def test_counts_are_exchangeable_and_of_the_size_they_say() -> None:
    model = Counts(torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=torch.float64))
    profiles, probabilities = model.profiles()
    assert profiles.sum(1).tolist() == [2, 2, 2]
    assert probabilities.tolist() == pytest.approx([1 / 3] * 3)
    assert bool((model.sample(1000, step_generator(0, 0, 0)).sum(1) == 2).all())


def test_a_chain_is_stationary_and_remembers() -> None:
    model = Markov(torch.tensor([0.05], dtype=torch.float64), torch.tensor([0.15], dtype=torch.float64))
    assert model.stationary.probabilities.tolist() == pytest.approx([0.25])
    path = model.path(200_000, step_generator(2, 0, 0))[:, 0].double()
    assert float(path.mean()) == pytest.approx(0.25, abs=0.012)
    moved = (path - path.mean())[1:] @ (path - path.mean())[:-1] / len(path) / path.var()
    assert float(moved) == pytest.approx(1 - 0.05 - 0.15, abs=0.02)  # correlation of consecutive rounds


def test_the_tweaked_data_set_has_rows_of_zeros_for_who_is_absent() -> None:
    values, present = tweaked(Uniform(2, 3), SCENARIO_1, 50_000, step_generator(0, 0, 0))
    assert bool((values[~present] == 0).all())
    assert bool((values[present] > 0).any(1).all())
    assert float(values.mean()) == pytest.approx(0.5 * (0.6 + 0.3 / 2 + 0.09 / 2), abs=0.005)


@given(st.integers(4, 400), st.floats(0, 1), st.integers(0, 1000))
def test_stratified_weights_give_back_the_probabilities(count: int, least: float, seed: int) -> None:
    sample = stratified(Uniform(2, 1), SCENARIO_1, count, step_generator(seed, 0, 0), least=least)
    assert len(sample.values) == len(sample.weights) == count
    assert float(sample.weights.sum()) == pytest.approx(count)
    for profile, chance in zip(*SCENARIO_1.profiles(), strict=True):
        rows = (sample.present == profile).all(1)
        assert bool(rows.any())
        assert float(sample.weights[rows].sum()) / count == pytest.approx(float(chance))
        assert int(rows.sum()) >= max(1, int(count * least / 4) - 3)
    assert bool((sample.values[~sample.present] == 0).all())


def test_a_rare_profile_is_seen_often_and_weighs_little() -> None:
    sample = stratified(Uniform(2, 1), SCENARIO_1, 10_000, step_generator(0, 0, 0))
    nobody = ~sample.present.any(1)
    assert int(nobody.sum()) == 1300  # 0.5 of 1/4, and 0.5 of 0.01
    assert float(sample.weights[nobody][0]) == pytest.approx(0.01 / 0.13)


def test_estimates_from_records_cover_the_truth() -> None:
    covered = 0
    for seed in range(200):
        found = estimate_profiles(SCENARIO_1.sample(300, step_generator(seed, 0, 0)))
        everybody = found.model.present.all(1).nonzero()
        at = int(everybody[0])
        covered += bool(found.low[at] <= 0.6 <= found.high[at])
    assert covered >= 186  # at least 95 % of 200, less three standard errors
    one = estimate_profiles(torch.ones(10, 2, dtype=torch.bool), 0.9)
    assert one.model.probabilities.tolist() == [1.0]
    assert float(one.high[0]) == 1.0
    assert float(one.low[0]) == pytest.approx(0.05 ** (1 / 10))
    assert one.unseen == pytest.approx(1 - 0.1 ** (1 / 10))


def test_what_is_no_distribution_is_refused() -> None:
    half = torch.tensor([0.5, 0.4], dtype=torch.float64)
    with pytest.raises(ValueError, match="sum to 1"):
        Profiles(torch.tensor([[True], [False]]), half)
    with pytest.raises(ValueError, match="listed twice"):
        Profiles(torch.tensor([[True], [True]]), torch.tensor([0.5, 0.5], dtype=torch.float64))
    with pytest.raises(ValueError, match="no profile"):
        Profiles(torch.zeros(0, 1, dtype=torch.bool), torch.zeros(0, dtype=torch.float64))
    with pytest.raises(ValueError, match="must lie in"):
        Independent(torch.tensor([1.5], dtype=torch.float64))
    with pytest.raises(ValueError, match="neither arrive nor leave"):
        Markov(torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    with pytest.raises(ValueError, match="too many profiles"):
        Independent(torch.full((17,), 0.5, dtype=torch.float64)).profiles()
    with pytest.raises(ValueError, match="rows for 4 profiles"):
        stratified(Uniform(2, 1), SCENARIO_1, 3, step_generator(0, 0, 0))
    with pytest.raises(ValueError, match="0 rounds"):
        estimate_profiles(torch.zeros(0, 2, dtype=torch.bool))
