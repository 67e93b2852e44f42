"""Honest numbers: revenue of the hard mechanism with standard error, regret with its search, IR, feasibility."""

from mechanisms.evaluation.exact import evaluate_exact
from mechanisms.evaluation.measures import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate", "evaluate_exact"]
