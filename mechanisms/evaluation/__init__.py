"""Honest numbers: revenue of the hard mechanism with standard error, regret with its search, IR, feasibility."""

from mechanisms.evaluation.auditor import Audit, audit_regret, audit_values
from mechanisms.evaluation.exact import evaluate_exact
from mechanisms.evaluation.measures import Evaluation, evaluate

__all__ = ["Audit", "Evaluation", "audit_regret", "audit_values", "evaluate", "evaluate_exact"]
