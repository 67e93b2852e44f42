"""The one training loop, its objectives, schedules and run folders."""

from mechanisms.training.aggregated import AggregatedSizeBoosts
from mechanisms.training.alg import AlgNetTraining
from mechanisms.training.ca_ama import CorrelationAwareAMA
from mechanisms.training.conditional import ConditionalAuction
from mechanisms.training.deterministic import DeterministicAMA
from mechanisms.training.fee import FeeAMA
from mechanisms.training.generator import ProfileGenerator
from mechanisms.training.loop import Objective, Schedule, TrainingResult, train
from mechanisms.training.lottery_ama import LotteryAMA
from mechanisms.training.menu_network import MenuNetwork
from mechanisms.training.myerson_net import MyersonNetTraining
from mechanisms.training.network import NetworkTraining
from mechanisms.training.size_boost import SizeBoostAMA
from mechanisms.training.textbook import TextbookAMA

__all__ = [
    "AggregatedSizeBoosts",
    "AlgNetTraining",
    "ConditionalAuction",
    "CorrelationAwareAMA",
    "DeterministicAMA",
    "FeeAMA",
    "LotteryAMA",
    "MenuNetwork",
    "MyersonNetTraining",
    "NetworkTraining",
    "Objective",
    "ProfileGenerator",
    "Schedule",
    "SizeBoostAMA",
    "TextbookAMA",
    "TrainingResult",
    "train",
]
