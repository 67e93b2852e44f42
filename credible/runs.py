"""Loading what `train` and `export` wrote: a run's hard mechanism, an artifact's engine and grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from credible.settings import Setting
from protocol.errors import MalformedError

if TYPE_CHECKING:
    from mechanisms.affine import AffineMaximizer


def load_run(folder: Path) -> tuple[Setting, AffineMaximizer, dict[str, Any]]:
    """Return a run's setting, hard mechanism and configuration.

    Raises:
        MalformedError: If the folder is no finished or running run.
    """
    from mechanisms.training import LotteryAMA
    from mechanisms.training.loop import step_generator
    from mechanisms.training.run import RunError, read_config, read_weights

    try:
        config = read_config(folder)
        setting = msgspec.convert(config["setting"], Setting, strict=False)
        weights = read_weights(folder)
        objective = LotteryAMA(setting.bidders, setting.items, setting.train.entries, 1.0, step_generator(0, 4, 0))
        for name, tensor in objective.parameters().items():
            if weights[name].shape != tensor.shape:
                raise MalformedError(f"{folder}: {name} has shape {tuple(weights[name].shape)}")
            tensor.copy_(weights[name])
        return setting, objective.mechanism(float(config["scale"])), config
    except (RunError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise MalformedError(f"{folder}: no usable run: {error}") from error
