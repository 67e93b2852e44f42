"""The one training loop, its objectives, schedules and run folders."""

from mechanisms.training.fee import FeeAMA
from mechanisms.training.loop import Schedule, TrainingResult, train
from mechanisms.training.lottery_ama import LotteryAMA
from mechanisms.training.size_boost import SizeBoostAMA

__all__ = ["FeeAMA", "LotteryAMA", "Schedule", "SizeBoostAMA", "TrainingResult", "train"]
