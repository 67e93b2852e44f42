"""Honest numbers: revenue of the hard mechanism with standard error, regret with its search, IR, feasibility."""

from mechanisms.evaluation.auditor import Audit, audit_regret, audit_values
from mechanisms.evaluation.certified import Certificate, certify_regret
from mechanisms.evaluation.exact import evaluate_exact
from mechanisms.evaluation.measures import Evaluation, evaluate, surviving_revenue

__all__ = [
    "Audit",
    "Certificate",
    "Evaluation",
    "audit_regret",
    "audit_values",
    "certify_regret",
    "evaluate",
    "evaluate_exact",
    "surviving_revenue",
]
