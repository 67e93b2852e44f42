"""The one training loop, its objectives, schedules and run folders."""

from mechanisms.training.loop import Schedule, TrainingResult, train
from mechanisms.training.lottery_ama import LotteryAMA

__all__ = ["LotteryAMA", "Schedule", "TrainingResult", "train"]
