"""The one training loop: any objective, annealed temperature, growing batch, cosine rate, resume bit for bit."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from mechanisms.outcome import Mechanism, revenue
from mechanisms.training.run import RunFolder
from mechanisms.valuations import ValuationModel


@runtime_checkable
class Objective(Protocol):
    """What the loop trains: parameters, the gradient of a surrogate, and the hard mechanism they stand for."""

    @property
    def starts(self) -> int:
        """How many mechanisms are trained side by side; the first dimension of every trained tensor."""
        ...

    def parameters(self) -> dict[str, Tensor]:
        """Return the trained tensors by name."""
        ...

    def source(self, values: ValuationModel, seed: int) -> Callable[[int, Generator], Any]:
        """Return what draws a minibatch of a given size, over the scale of the values."""
        ...

    def gradients(self, drawn: Any, temperature: float, progress: float) -> tuple[dict[str, Tensor], Tensor]:
        """Return gradients to descend by name, and the surrogate revenue of each start.

        Args:
            drawn: A minibatch of `source`.
            temperature: Inverse temperature, per unit of value over scale.
            progress: Share of the training that is done, in [0, 1].
        """
        ...

    def mechanism(self, start: int = 0, scale: float = 1.0) -> Mechanism:
        """Return the hard mechanism of one start."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast.

    Attributes:
        iterations: Steps of Adam.
        batch_start: Profiles of the first step.
        batch_end: Profiles of the last step; grows geometrically.
        temperature_start: Inverse temperature of the first step, per unit of value over scale.
        temperature_end: Of the last step; grows geometrically.
        learning_rate: Of the first step; falls to zero by a cosine.
        boost_rate: Learning rate of the boosts; the same if left at 0.
        every: Steps between evaluations of the hard mechanism, and between checkpoints.

    Raises:
        ValueError: If a number is not positive.
    """

    iterations: int
    batch_start: int
    batch_end: int
    temperature_start: float
    temperature_end: float
    learning_rate: float
    boost_rate: float = 0.0
    every: int = 100

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_start", "batch_end", "temperature_start", "temperature_end", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted above 0")

    def at(self, step: int) -> tuple[int, float, float]:
        """Return batch, temperature and factor of the learning rate of a step."""
        progress = step / max(self.iterations - 1, 1)
        batch = round(self.batch_start * (self.batch_end / self.batch_start) ** progress)
        temperature = self.temperature_start * (self.temperature_end / self.temperature_start) ** progress
        return batch, temperature, 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What training ended with.

    Attributes:
        step: Steps done.
        validation: Hard revenue of every start on the held-out batch, in units of value.
    """

    step: int
    validation: tuple[float, ...]

    @property
    def best(self) -> int:
        """The start of greatest hard revenue."""
        return self.validation.index(max(self.validation))


def step_generator(seed: int, purpose: int, step: int) -> Generator:
    """Return the generator of one step: a function of seed, purpose and step, so that resuming needs no state."""
    # the engine behind a CPU generator looks at 32 bits of the seed only, so they must depend on all three
    digest = hashlib.sha256(f"{seed}/{purpose}/{step}".encode("ascii")).digest()
    generator = Generator()
    generator.manual_seed(int.from_bytes(digest[:4], "big"))
    return generator


def train(
    objective: Objective,
    values: ValuationModel,
    schedule: Schedule,
    *,
    seed: int,
    run: RunFolder | None = None,
    held_out: ValuationModel | None = None,
    progress: Callable[[int, float], None] = lambda step, validation: None,
) -> TrainingResult:
    """Train an objective.

    Args:
        objective: What is trained, changed in place.
        values: Training profiles.
        schedule: How long and how fast.
        seed: Decides every draw.
        run: Folder for metrics and checkpoints; a checkpoint in it is resumed.
        held_out: Profiles of the validation batch; `values` with other draws if left out.
        progress: Called with step and validation revenue after every evaluation.

    Returns:
        Steps done and the validation revenues.
    """
    parameters = objective.parameters()
    scale = values.scale
    groups = [
        {
            "params": [tensor],
            "lr": schedule.boost_rate if name == "boosts" and schedule.boost_rate else schedule.learning_rate,
        }
        for name, tensor in parameters.items()
    ]
    rates = [float(group["lr"]) for group in groups]  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(groups)
    first = run.restore(parameters, optimizer) if run is not None else 0
    draw = objective.source(values, seed)
    batch_held_out = (held_out or values).sample(8192, step_generator(seed, 2, 0))
    result: TrainingResult | None = None
    for step in range(first, schedule.iterations):
        batch, temperature, factor = schedule.at(step)
        drawn = draw(batch, step_generator(seed, 1, step))
        gradients, surrogate = objective.gradients(drawn, temperature, step / schedule.iterations)
        if not torch.isfinite(surrogate).all():
            raise FloatingPointError(f"the surrogate is {surrogate.tolist()} at step {step}: lower the learning rate")
        for name, tensor in parameters.items():
            tensor.grad = gradients[name]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        optimizer.step()
        done = step + 1
        if done % schedule.every == 0 or done == schedule.iterations:
            result = TrainingResult(done, validate(objective, scale, batch_held_out))
            progress(done, max(result.validation))
            if run is not None:
                soft = [float(item) * scale for item in surrogate]
                run.log(step=done, temperature=temperature, surrogate=soft, validation=list(result.validation))
                run.save(parameters, optimizer, done, result.best)
    return result or TrainingResult(first, validate(objective, scale, batch_held_out))  # a complete run, resumed


def fresh_profiles(values: ValuationModel) -> Callable[[int, Generator], Tensor]:
    """Return what draws minibatches of fresh profiles, float32, over the scale of the values."""
    return lambda count, generator: (values.sample(count, generator) / values.scale).to(torch.float32)


def validate(objective: Objective, scale: float, profiles: Tensor) -> tuple[float, ...]:
    """Return the hard revenue of every start on some profiles, in units of value."""
    mechanisms = (objective.mechanism(start, scale) for start in range(objective.starts))
    return tuple(float(revenue(mechanism.run(profiles)).mean()) for mechanism in mechanisms)
