"""The one training loop: any objective, annealed temperature, growing batch, cosine rate; resumes bit for bit on a CPU.

On a GPU the profiles come from pools that the CPU draws ahead, batches are powers of two, and a step is one replay of a
recorded graph.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from mechanisms.outcome import Mechanism, revenue
from mechanisms.training.run import RunFolder
from mechanisms.valuations import ValuationModel

POOL: Final = 1 << 18  # profiles that a GPU draws its batches from
REUSED: Final = 4  # times that each is seen before the next pool
POOL_BYTES: Final = 1 << 30


@runtime_checkable
class Objective(Protocol):
    """What the loop trains: parameters, the gradient of a surrogate, and the hard mechanism they stand for."""

    @property
    def bidders(self) -> int:
        """Number of bidders."""
        ...

    @property
    def items(self) -> int:
        """Number of items."""
        ...

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

    def gradients(
        self, drawn: Any, temperature: float | Tensor, progress: float | Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return gradients to descend by name, and the surrogate revenue of each start; never branch on a number.

        Args:
            drawn: A minibatch of `source`.
            temperature: Inverse temperature, per unit of value over scale.
            progress: Share of the training that is done, in [0, 1].
        """
        ...

    def mechanism(self, start: int = 0, scale: float = 1.0) -> Mechanism:
        """Return the hard mechanism of one start, on the CPU."""
        ...


@runtime_checkable
class Buffered(Protocol):
    """An objective that keeps tensors which no gradient moves."""

    def buffers(self) -> dict[str, Tensor]:
        """Return them by name; steps change them in place."""
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
        fee_rate: Learning rate of fee networks; the same if left at 0.
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
    fee_rate: float = 0.0
    every: int = 100

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_start", "batch_end", "temperature_start", "temperature_end", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted above 0")

    def rate(self, name: str) -> float:
        """Return the first learning rate of a tensor."""
        own = self.boost_rate if name == "boosts" else self.fee_rate if name.startswith("fee_") else 0.0
        return own or self.learning_rate

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
    device: torch.device | None = None,
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
        device: Where the steps are done, the CPU if left out. The parameters return to the CPU.

    Returns:
        Steps done and the validation revenues.

    Raises:
        FloatingPointError: If the surrogate is no number any more.
    """
    parameters = objective.parameters()
    on_gpu = device is not None and device.type == "cuda"
    moved = [*parameters.values(), *buffers_of(objective).values()]
    for tensor in moved:
        tensor.data = tensor.data.to(device or "cpu")  # in place: the objective holds these very tensors
    draw = objective.source(values, seed)
    pools = Pools(draw, seed, device) if on_gpu and device is not None else None
    batch_held_out = (held_out or values).sample(8192, step_generator(seed, 2, 0))
    try:
        return _steps(objective, values.scale, schedule, pools or draw, batch_held_out, seed, run, progress, device)
    finally:
        if pools is not None:
            pools.close()
        for tensor in moved:
            tensor.data = tensor.data.cpu()


def buffers_of(objective: Objective) -> dict[str, Tensor]:
    """Return what an objective keeps beside its parameters."""
    return objective.buffers() if isinstance(objective, Buffered) else {}


def _steps(
    objective: Objective,
    scale: float,
    schedule: Schedule,
    draw: Callable[[int, Generator], Any],
    held_out: Tensor,
    seed: int,
    run: RunFolder | None,
    progress: Callable[[int, float], None],
    device: torch.device | None,
) -> TrainingResult:
    parameters = objective.parameters()
    on_gpu = device is not None and device.type == "cuda"
    groups: list[dict[str, Any]] = [
        {
            "params": [tensor],
            "lr": schedule.rate(name),
        }
        for name, tensor in parameters.items()
    ]
    rates = [float(group["lr"]) for group in groups]
    if on_gpu:
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = torch.tensor(rate, device=device)
    optimizer = torch.optim.Adam(groups, capturable=on_gpu)
    buffers = buffers_of(objective)
    first = run.restore(parameters, optimizer, buffers) if run is not None else 0
    graphs: dict[tuple[torch.Size, ...], _Graph] = {}
    result: TrainingResult | None = None
    for step in range(first, schedule.iterations):
        batch, temperature, factor = schedule.at(step)
        if on_gpu:
            batch = 1 << round(math.log2(batch))
        drawn = draw(batch, step_generator(seed, 1, step))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)  # where the recorded step reads it
            else:
                group["lr"] = rate * factor
        share = step / schedule.iterations
        if on_gpu:
            shapes = tuple(part.shape for part in _parts(drawn))
            if shapes not in graphs:
                graphs[shapes] = _Graph(objective, parameters, optimizer, drawn)
            surrogate = graphs[shapes].replay(drawn, temperature, share)
        else:
            surrogate = _step(objective, parameters, optimizer, drawn, temperature, share)
        done = step + 1
        evaluated = done % schedule.every == 0 or done == schedule.iterations
        if (evaluated or not on_gpu) and not torch.isfinite(surrogate).all():  # asking a GPU would wait for it
            raise FloatingPointError(f"the surrogate is {surrogate.tolist()} at step {step}: lower the learning rate")
        if evaluated:
            result = TrainingResult(done, validate(objective, scale, held_out))
            progress(done, max(result.validation))
            if run is not None:
                soft = [float(item) * scale for item in surrogate]
                run.log(step=done, temperature=temperature, surrogate=soft, validation=list(result.validation))
                run.save(parameters, optimizer, done, result.best, buffers)
    return result or TrainingResult(first, validate(objective, scale, held_out))  # a complete run, resumed


def _step(
    objective: Objective,
    parameters: dict[str, Tensor],
    optimizer: torch.optim.Adam,
    drawn: Any,
    temperature: float | Tensor,
    progress: float | Tensor,
) -> Tensor:
    """Do one step; return the surrogate revenue of each start before it."""
    gradients, surrogate = objective.gradients(drawn, temperature, progress)
    for name, tensor in parameters.items():
        tensor.grad = gradients[name]
    optimizer.step()
    return surrogate


class _Graph:
    """One step on a GPU, recorded once and replayed: hundreds of small kernels cost one launch."""

    def __init__(
        self, objective: Objective, parameters: dict[str, Tensor], optimizer: torch.optim.Adam, drawn: Any
    ) -> None:
        self._drawn = [part.clone() for part in _parts(drawn)]
        inputs = self._drawn[0] if isinstance(drawn, Tensor) else tuple(self._drawn)
        self._temperature = torch.ones((), device=self._drawn[0].device)
        self._progress = torch.zeros_like(self._temperature)
        held = [*parameters.values(), *buffers_of(objective).values()]
        kept = [tensor.clone() for tensor in held]
        state = {
            tensor: {key: value.clone() for key, value in moments.items()}
            for tensor, moments in optimizer.state.items()
        }
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries set themselves up in a first run, which cannot be recorded
            for _ in range(2):
                _step(objective, parameters, optimizer, inputs, self._temperature, self._progress)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._surrogate = _step(objective, parameters, optimizer, inputs, self._temperature, self._progress)
        for tensor, before in zip(held, kept, strict=True):  # those steps never were
            tensor.copy_(before)
        for tensor in parameters.values():
            for key, value in optimizer.state[tensor].items():
                value.copy_(state[tensor][key]) if tensor in state else value.zero_()

    def replay(self, drawn: Any, temperature: float, progress: float) -> Tensor:
        """Do one step on these draws; return the surrogate revenue of each start."""
        for kept, part in zip(self._drawn, _parts(drawn), strict=True):
            kept.copy_(part)
        self._temperature.fill_(temperature)
        self._progress.fill_(progress)
        self._graph.replay()
        return self._surrogate


class Pools:
    """Draws of a source kept on a GPU; the CPU draws the next pool while one is in use."""

    def __init__(self, draw: Callable[[int, Generator], Any], seed: int, device: torch.device) -> None:
        self._draw, self._seed, self._device = draw, seed, device
        self._generator = Generator(device)
        self._thread = ThreadPoolExecutor(1)
        row = sum(part.numel() * part.element_size() for part in _parts(draw(1, step_generator(seed, 8, 0))))
        self._size = min(POOL, POOL_BYTES // row)
        self._pool: Any = None
        self._next: Future[Any] = self._thread.submit(self._fill, 0)
        self._number, self._left = 0, 0

    def _fill(self, number: int) -> Any:
        return self._draw(self._size, step_generator(self._seed, 8, number))

    def __call__(self, count: int, generator: Generator) -> Any:
        """Return a minibatch of a pool; the generator's seed decides which of it."""
        if self._left <= 0:
            drawn = self._next.result()
            self._pool = [part.to(self._device) for part in _parts(drawn)]
            self._single = isinstance(drawn, Tensor)
            self._number += 1
            self._left = REUSED * self._size
            self._next = self._thread.submit(self._fill, self._number)
        self._left -= count
        self._generator.manual_seed(generator.initial_seed())
        index = torch.randint(self._size, (count,), generator=self._generator, device=self._device)
        parts = [part[index] for part in self._pool]
        return parts[0] if self._single else tuple(parts)

    def close(self) -> None:
        """Stop drawing ahead."""
        self._thread.shutdown(cancel_futures=True)


def _parts(drawn: Any) -> list[Tensor]:
    return [drawn] if isinstance(drawn, Tensor) else list(drawn)


def fresh_profiles(values: ValuationModel) -> Callable[[int, Generator], Tensor]:
    """Return what draws minibatches of fresh profiles, float32, over the scale of the values."""
    return lambda count, generator: (values.sample(count, generator) / values.scale).to(torch.float32)


def validate(objective: Objective, scale: float, profiles: Tensor) -> tuple[float, ...]:
    """Return the hard revenue of every start on some profiles, in units of value."""
    mechanisms = (objective.mechanism(start, scale) for start in range(objective.starts))
    return tuple(float(revenue(mechanism.run(profiles)).mean()) for mechanism in mechanisms)
