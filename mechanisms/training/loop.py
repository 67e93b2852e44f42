"""The one training loop: any objective, annealed temperature, growing batch, cosine rate, resume bit for bit."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from mechanisms.outcome import Mechanism, revenue
from mechanisms.training.run import RunFolder
from mechanisms.valuations import ValuationModel


@runtime_checkable
class Objective(Protocol):
    """What the loop trains: parameters, the gradient of a surrogate, and the hard mechanism they stand for."""

    def parameters(self) -> dict[str, Tensor]:
        """Return the trained tensors by name."""
        ...

    def gradients(self, values: Tensor, temperature: float) -> tuple[dict[str, Tensor], float]:
        """Return gradients to descend by name, and the surrogate revenue."""
        ...

    def mechanism(self, scale: float = 1.0) -> Mechanism:
        """Return the hard mechanism."""
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
        validation: Hard revenue on the held-out batch, in units of value; None if never evaluated.
    """

    step: int
    validation: float | None


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
        Steps done and the last validation revenue.
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
    validation: float | None = None
    batch_held_out = (held_out or values).sample(8192, step_generator(seed, 2, 0))
    for step in range(first, schedule.iterations):
        batch, temperature, factor = schedule.at(step)
        drawn = values.sample(batch, step_generator(seed, 1, step)) / scale
        gradients, surrogate = objective.gradients(drawn, temperature)
        if not math.isfinite(surrogate):
            raise FloatingPointError(f"the surrogate is {surrogate} at step {step}: lower the learning rate")
        for name, tensor in parameters.items():
            tensor.grad = gradients[name]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        optimizer.step()
        done = step + 1
        if done % schedule.every == 0 or done == schedule.iterations:
            validation = float(revenue(objective.mechanism(scale).run(batch_held_out)).mean())
            progress(done, validation)
            if run is not None:
                run.log(step=done, temperature=temperature, surrogate=surrogate * scale, validation=validation)
                run.save(parameters, optimizer, done)
    return TrainingResult(schedule.iterations, validation)
