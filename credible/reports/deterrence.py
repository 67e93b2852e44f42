"""The figure of `credible penalty`: what deters, and what cheating would earn below it (spec 9)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from credible.reports.style import new, save
from credible.simulation.deterrence import best_independent, best_stream
from protocol.penalties import Requirement, detection_fixed, detection_independent, penalty_stream

HORIZON = 120  # rounds of the stream whose optimum is drawn


def draw(path: Path, needed: Requirement, rounds: int, k: int, q: Fraction, lag: int) -> None:
    """Draw the trade-off of a preset: best profit against the penalty, penalty and detection against the audit rate.

    Args:
        path: FILE.svg, FILE.png or FILE.pdf.
        needed: What the preset calls for.
        rounds: T.
        k: Rounds audited, for "published".
        q: Chance of an audit, for "prompt".
        lag: L, for "prompt".
    """
    published = needed.preset == "published"
    g = max(needed.gain_bound, 1)
    figure, axes = new(3, width=13, height=3.8)
    factors = [Fraction(n, 20) for n in range(0, 31)]
    profits = [float(_profit(published, rounds, k, q, lag, Fraction(needed.penalty, g) * f)) for f in factors]
    axes[0].plot([float(f) for f in factors], profits)
    axes[0].axvline(1, color="black", linestyle=":", label=f"required penalty (spec {needed.rule})")
    axes[0].set(xlabel="penalty / required penalty", ylabel="largest profit / g", title="What the best cheat earns")
    axes[0].legend()
    rates = [Fraction(n, 100) for n in range(1, 101)]
    for lags in (0, lag, 4 * lag + 4):
        values = [penalty_stream(rate, lags, 1000) / 1000 for rate in rates]
        axes[1].plot([float(rate) for rate in rates], values, label=f"halt, L = {lags}")
    axes[1].axhline(rounds, color="gray", linestyle="--", label=f"audits at the end of T = {rounds}")
    axes[1].set(xlabel="share of rounds audited q", ylabel="penalty / g", yscale="log", title="What the rate buys")
    axes[1].legend()
    deviating = range(1, rounds + 1)
    chance = [float(detection_fixed(rounds, k, w) if published else detection_independent(q, w)) for w in deviating]
    axes[2].plot(list(deviating), chance)
    axes[2].set(xlabel="deviating rounds w", ylabel="chance to be caught", ylim=(0, 1.02), title="Detection")
    save(figure, path)


def _profit(published: bool, rounds: int, k: int, q: Fraction, lag: int, penalty: Fraction) -> Fraction:
    """Return the optimum in units of g, each round being worth g."""
    if not published:
        horizon = min(rounds, HORIZON)
        return best_stream(horizon, [q] * horizon, lag, [1] * horizon, penalty)
    if k == rounds:
        return best_independent(rounds, Fraction(1), 1, penalty)
    return max(w - detection_fixed(rounds, k, w) * penalty for w in range(rounds + 1))
