"""A run folder: configuration, environment, metrics, weights, checkpoints to resume from (hardening 4.11)."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

CONFIG: Final = "config.json"
ENVIRONMENT: Final = "environment.json"
METRICS: Final = "metrics.jsonl"
WEIGHTS: Final = "weights.safetensors"
KEPT: Final = 2  # checkpoints


class RunError(Exception):
    """A run folder that cannot be used; the text says what was found and what was wanted."""


class RunFolder:
    """One training run on disk.

    Args:
        path: The folder.
        config: What the run is; compared with the stored one on resume.
        resume: Whether an existing folder is gone on with.

    Raises:
        FileExistsError: If the folder exists and `resume` is not set.
        RunError: If on resume there is no folder, or its stored configuration differs.
    """

    def __init__(self, path: Path, config: dict[str, Any], *, resume: bool = False) -> None:
        self.path = path
        config = json.loads(json.dumps(config))  # as it will be read back: tuples become lists
        if path.exists():
            if not resume:
                raise FileExistsError(f"{path} exists; choose another folder, or resume it")
            stored = read_config(path)
            if stored != config:
                changed = sorted(key for key in {*stored, *config} if stored.get(key) != config.get(key))
                told = [
                    f"{key} {stored[key]}, not {config.get(key)}"
                    if isinstance(stored.get(key), int | str)
                    else f"another {key}"
                    for key in changed
                ]
                raise RunError(f"{path} was started with {'; '.join(told)}: resume it with the same options")
        else:
            if resume:
                raise RunError(f"{path} does not exist: nothing to resume")
            path.mkdir(parents=True)
            _write(path / CONFIG, _json(config))
            _write(path / ENVIRONMENT, _json({"python": platform.python_version(), "torch": torch.__version__}))

    def log(self, **metrics: float | list[float]) -> None:
        """Append one line of metrics."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")

    def save(
        self,
        parameters: dict[str, Tensor],
        optimizer: torch.optim.Adam,
        step: int,
        best: int,
        buffers: dict[str, Tensor],
    ) -> None:
        """Write a checkpoint, its hash in its name, and the best start's weights; keep the last two checkpoints."""
        tensors = {f"parameter.{name}": tensor.detach().contiguous() for name, tensor in parameters.items()}
        tensors |= {f"buffer.{name}": tensor.contiguous() for name, tensor in buffers.items()}
        for name, tensor in parameters.items():
            state = optimizer.state[tensor]
            tensors |= {f"first.{name}": state["exp_avg"], f"second.{name}": state["exp_avg_sq"]}
        data = save_tensors({name: tensor.cpu().clone() for name, tensor in tensors.items()})
        digest = hashlib.sha256(data).hexdigest()[:32]
        _write(self.path / f"checkpoint-{step:08d}-{digest}.safetensors", data)
        weights = {name: tensor.detach()[best : best + 1].cpu().clone() for name, tensor in parameters.items()}
        _write(self.path / WEIGHTS, save_tensors(weights))
        for old in _checkpoints(self.path)[:-KEPT]:
            old.unlink()

    def restore(self, parameters: dict[str, Tensor], optimizer: torch.optim.Adam, buffers: dict[str, Tensor]) -> int:
        """Load the last checkpoint into parameters, optimizer and buffers; return the steps done, 0 if there is none.

        Raises:
            RunError: If its bytes do not have the hash in its name, or its tensors other shapes.
        """
        found = _checkpoints(self.path)
        if not found:
            return 0
        path = found[-1]
        data = path.read_bytes()
        _, step, digest = path.stem.split("-")
        if hashlib.sha256(data).hexdigest()[:32] != digest:
            raise RunError(f"{path.name}: the bytes do not have the hash in the name")
        tensors = load_tensors(data)
        wanted = {f"parameter.{name}": tensor for name, tensor in parameters.items()}
        wanted |= {f"buffer.{name}": tensor for name, tensor in buffers.items()}
        for name, tensor in wanted.items():
            stored = tensors.get(name)
            if stored is None or stored.shape != tensor.shape:
                raise RunError(f"{path.name}: {name} is missing or has another shape")
            tensor.copy_(stored)
        for name, tensor in parameters.items():
            optimizer.state[tensor] = {
                "step": torch.tensor(float(step), device=tensor.device),
                "exp_avg": tensors[f"first.{name}"].to(tensor.device),
                "exp_avg_sq": tensors[f"second.{name}"].to(tensor.device),
            }
        return int(step)


def _checkpoints(path: Path) -> list[Path]:
    return sorted(path.glob("checkpoint-*.safetensors"))


def steps_done(path: Path) -> int:
    """Return after how many steps a run's weights were saved, 0 if never; raise RunError if a name does not say."""
    found = _checkpoints(path)
    if not found:
        return 0
    step = found[-1].stem.split("-")[1]
    if not (step.isascii() and step.isdigit()):
        raise RunError(f"{found[-1].name}: {step[:20]!r} is no number of steps")
    return int(step)


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration of a run folder; raise RunError if there is none."""
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: no run folder: {error}") from error
    if not isinstance(config, dict):
        raise RunError(f"{path / CONFIG}: not an object")
    return config


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the trained tensors of a run; raise RunError if there are none."""
    try:
        return load_tensors((path / WEIGHTS).read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: no weights: {error}") from error
    except Exception as error:  # safetensors raises its own error type, which it does not export for all versions
        raise RunError(f"{path / WEIGHTS}: cannot be read: {error}") from error


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode("utf-8")


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
