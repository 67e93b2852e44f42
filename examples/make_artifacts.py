"""Train, export and certify the artifacts in examples/artifacts: `python examples/make_artifacts.py [FOLDER]`.

The same seeds and releases give the same files; each has its card beside it.
"""

import sys
import tempfile
from pathlib import Path

from credible.cli import run_command

MADE = {
    "lottery_2x2": ("additive_2x2_uniform", "lottery-ama"),
    "boosts_2x5": ("additive_2x5_uniform", "size-boost"),
    "boosts_3x10": ("additive_3x10_uniform", "size-boost"),
}


def make(folder: Path, names: tuple[str, ...] = tuple(MADE)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as runs:
        for name in names:
            setting, method = MADE[name]
            run, artifact = str(Path(runs) / name), str(folder / f"{name}.onnx")
            for command in (
                ["train", setting, "--method", method, "--seed", "0", "--out", run],
                ["export", run, "-o", artifact],
                ["inspect", artifact, "--certify"],
            ):
                status = run_command(command)
                if status:
                    sys.exit(status)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "artifacts")
