"""The one training loop, its objectives, schedules and run folders."""

from mechanisms.training.deterministic import DeterministicAMA
from mechanisms.training.fee import FeeAMA
from mechanisms.training.loop import Objective, Schedule, TrainingResult, train
from mechanisms.training.lottery_ama import LotteryAMA
from mechanisms.training.size_boost import SizeBoostAMA
from mechanisms.training.textbook import TextbookAMA

__all__ = [
    "DeterministicAMA",
    "FeeAMA",
    "LotteryAMA",
    "Objective",
    "Schedule",
    "SizeBoostAMA",
    "TextbookAMA",
    "TrainingResult",
    "train",
]
