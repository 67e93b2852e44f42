"""What makes cheating not pay: gain bounds, penalties, detection, deposits, the escrow account book (spec 9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import comb

from protocol.encoding import MAX_INTEGER
from protocol.errors import VerificationError
from protocol.manifest import Manifest

POOL = "pool"  # account that receives forfeited money
ESCROW = "escrow"  # account that holds charges until their epoch is settled


def gain_bound(items: int, bid_max: int, share_bits: int) -> int:
    """Return g = V: the sum over items of the highest value in the support, in fine units (spec 9.11).

    With payment <= bid checked in every round and every item allocated at most once, no outcome earns more.
    """
    return (items * bid_max) << share_bits


def _above(bound: Fraction | int) -> int:
    return int(Fraction(bound) // 1) + 1  # every bound is strict (spec 9.1)


def penalty_fixed(rounds: int, k: int, g: int, *, gains: str = "kept", coins: int = 1) -> int:
    """Return the least penalty for k of T rounds audited at the end (spec 9.3).

    Args:
        rounds: T.
        k: Rounds audited, uniformly without replacement.
        g: Gain bound, fine units.
        gains: "kept": F > T g, whatever k; "returned": F > (T/k - 1) g.
        coins: m, the coins that aborting contributors may choose from (spec 9.12); F multiplies by (T/k)^(m-1).
    """
    bound = Fraction(rounds * g) if gains == "kept" else (Fraction(rounds, k) - 1) * g
    return _above(bound * Fraction(rounds, k) ** (coins - 1))


def penalty_fine_fixed(rounds: int, k: int, g: int, *, gains: str = "kept", beta: Fraction = Fraction(1)) -> int:
    """Return the least fine for each audited deviating round, k of T audited (spec 9.4).

    The largest bill is k times it.
    """
    rate = Fraction(rounds, k) / beta
    return _above((rate if gains == "kept" else rate - 1) * g)


def penalty_independent(rounds: int, q: Fraction, g: int, *, gains: str = "kept", coins: int = 1) -> int:
    """Return the least penalty for independent audits with chance q, known at the end (spec 9.5)."""
    bound = Fraction(rounds * g) / (1 - (1 - q) ** rounds) if gains == "kept" else g * (1 - q) / q
    return _above(bound / q ** (coins - 1))


def penalty_stream(
    q: Fraction, lag: int, g: int, *, gains: str = "kept", beta: Fraction = Fraction(1), coins: int = 1
) -> int:
    """Return the least penalty for a stream that halts at the first detection, L rounds late at most (spec 9.6).

    Kept: F > (1/(beta q) + L) g. Returned: F > ((1-q)/q + L) g.
    """
    factor = 1 / (beta * q) + lag if gains == "kept" else (1 - q) / q + lag
    return _above(factor * g / q ** (coins - 1))


def penalty_epochs(epoch: int, k: int, after: int, g: int, *, gains: str = "kept", coins: int = 1) -> int:
    """Return the least penalty for epochs of E rounds, k audited at the end, A rounds until the halt (spec 9.7)."""
    bound = (Fraction(epoch + after) if gains == "kept" else Fraction(epoch, k) - 1 + after) * g
    return _above(bound * Fraction(epoch, k) ** (coins - 1))


def audit_chance(exposure: int, penalty: int, lag: int, largest: int) -> Fraction:
    """Return the least chance with which a round of some exposure is audited, above g_t / (D - L g_max) (spec 9.10).

    Rounded up to a multiple of 1/2^20, at most 1.

    Args:
        exposure: g_t, fine units.
        penalty: D, fine units.
        lag: L, rounds until the verdict.
        largest: g_max over all rounds.

    Raises:
        ValueError: If D <= (L + 1) g_max: then no chance is enough.
    """
    if penalty <= (lag + 1) * largest or not 0 <= exposure <= largest:
        raise ValueError(f"penalty {penalty} is not above (L + 1) g_max = {(lag + 1) * largest} (spec 9.10)")
    steps = (exposure << 20) // (penalty - lag * largest) + 1
    return min(Fraction(steps, 1 << 20), Fraction(1))


def detection_fixed(rounds: int, k: int, deviating: int) -> Fraction:
    """Return P(w) = 1 - C(T-w, k)/C(T, k): the chance to audit one of w deviating rounds (spec 9.3)."""
    return 1 - Fraction(comb(rounds - deviating, k), comb(rounds, k))


def detection_independent(q: Fraction, deviating: int) -> Fraction:
    """Return P(w) = 1 - (1-q)^w (spec 9.5)."""
    return 1 - (1 - q) ** deviating


def audits_needed(rounds: int, deviating: int, miss: Fraction) -> int:
    """Return the least k that misses w deviating rounds of T with chance at most `miss` (spec 9.8), exactly."""
    low, high = 1, rounds - deviating + 1
    while low < high:
        middle = (low + high) // 2
        if 1 - detection_fixed(rounds, middle, deviating) <= miss:
            high = middle
        else:
            low = middle + 1
    return low


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a manifest's audit rule calls for, in fine units."""

    preset: str
    gain_bound: int
    penalty: int
    deposit: int
    rule: str


def requirement(preset: str, *, g: int, rounds: int, k: int, q: Fraction, lag: int, coins: int = 1) -> Requirement:
    """Return the penalty and deposit of a preset (spec 7.3, 9.9); gains are kept.

    Args:
        preset: "published" (one epoch of T rounds, k drawn) or "prompt" (each round with chance q, halt, lag L).
        g: Gain bound of one round.
        rounds: T, for "published".
        k: Rounds drawn, for "published".
        q: Chance of an audit, for "prompt".
        lag: L, for "prompt".
        coins: m = 2^c (spec 5.8).

    Raises:
        ValueError: If the preset is neither.
    """
    if preset == "published":
        return Requirement(preset, g, f := penalty_fixed(rounds, k, g, coins=coins), f, "9.3")
    if preset == "prompt":
        return Requirement(preset, g, f := penalty_stream(q, lag, g, coins=coins), f, "9.6")
    raise ValueError(f"preset {preset!r}, wanted published or prompt (spec 7.3)")


def check_manifest_stakes(manifest: Manifest) -> None:
    """Check that the penalty exceeds what a deviation can gain, and the deposit holds it (spec 6.2, 9.9).

    Raises:
        VerificationError: If g is understated or the penalty too small. A session labelled "record" replays auctions
            that are over: nobody holds a deposit, and it says so instead.
    """
    money, audit = manifest.money, manifest.audit
    least = gain_bound(len(manifest.items), manifest.grid.maximum, manifest.share_bits)
    if money.gain_bound < least:
        raise VerificationError(f"gain bound is {money.gain_bound}, the support allows {least} (spec 9.11)")
    if manifest.preset == "record":
        return
    if not money.gain_bound <= money.opening_forfeit <= money.bidder_deposit:
        raise VerificationError(
            f"a bidder forfeits {money.opening_forfeit} of {money.bidder_deposit} for an unopened commitment, at least "
            f"{money.gain_bound} is needed, held in its deposit (spec 9.9)"
        )
    coins = 2**manifest.aborting
    if audit.mode == "fixed":
        after = 0 if manifest.epochs == 1 else audit.lag
        needed = penalty_epochs(manifest.epoch_rounds, audit.k, after, money.gain_bound, gains=money.gains, coins=coins)
        rule = "9.3" if manifest.epochs == 1 else "9.7"
    else:
        # a round's verdict comes after its epoch, so the lag is at least the rest of the epoch
        if audit.lag < manifest.epoch_rounds - 1:
            raise VerificationError(
                f"lag is {audit.lag}, but a verdict may come {manifest.epoch_rounds - 1} rounds late (spec 9.6)"
            )
        if audit.mode == "independent":
            q = Fraction(audit.q_num, audit.q_den)
            needed = penalty_stream(q, audit.lag, money.gain_bound, gains=money.gains, coins=coins)
            rule = "9.6"
        else:
            needed, rule = _check_exposures(manifest), "9.10"
    if money.penalty < needed:
        least_text = str(needed) if needed <= MAX_INTEGER else "more than 2^53"
        raise VerificationError(f"penalty is {money.penalty}, at least {least_text} is needed (spec {rule})")


def _check_exposures(manifest: Manifest) -> int:
    """Check that every round's chance of an audit fits its exposure; return the least penalty (spec 9.10)."""
    audit, money, items = manifest.audit, manifest.money, len(manifest.items)
    if manifest.aborting:
        raise VerificationError("audits by exposure are priced for one coin: wanted aborting 0 (spec 9.10, 9.12)")
    left = money.penalty - audit.lag * money.gain_bound
    for number, item in enumerate(audit.exposures):
        exposure = gain_bound(items, item.maximum, manifest.share_bits)
        if item.num * left <= exposure * item.den:
            raise VerificationError(
                f"rounds of kind {number} are audited with chance {item.num}/{item.den}, wanted above "
                f"{exposure}/{left} (spec 9.10)"
            )
    return (audit.lag + 1) * money.gain_bound + 1


def epoch_amounts(
    auctioneer: str, penalty: int, forfeits: Mapping[str, int], returns: Mapping[str, int]
) -> dict[str, int]:
    """Return the public movements of an epoch's settlement by account (spec 9.14).

    What is forfeited goes to the pool; what is paid back to bidders comes out of the charges in escrow (9.2).
    """
    amounts = {auctioneer: -penalty, **{party: -amount for party, amount in forfeits.items()}}
    amounts[POOL] = -sum(amounts.values())
    amounts[ESCROW] = -sum(returns.values())
    for party, amount in returns.items():
        amounts[party] = amounts.get(party, 0) + amount
    return {account: amount for account, amount in sorted(amounts.items()) if amount}


@dataclass(slots=True)
class AccountBook:
    """Escrow accounts in fine units; money is conserved exactly and every movement happens once (spec 9.14).

    Attributes:
        balances: Money by account; deposits are positive, `outside` is what came from the parties' pockets (negative).
        done: Keys of the movements made.
    """

    balances: dict[str, int] = field(default_factory=dict)
    done: dict[str, dict[str, int]] = field(default_factory=dict)

    OUTSIDE = "outside"

    def move(self, key: str, amounts: Mapping[str, int]) -> bool:
        """Make one movement, once.

        Args:
            key: Identity of its cause, the hash of its evidence; a second call with it changes nothing.
            amounts: Change by account; the sum is zero.

        Returns:
            True if it was made now, False if it had been made.

        Raises:
            ValueError: If the amounts do not sum to zero, an account but `outside` would fall below zero, or the same
                key comes with other amounts; nothing is changed then.
        """
        wanted = {account: amount for account, amount in amounts.items() if amount}
        if any(type(amount) is not int or abs(amount) > MAX_INTEGER for amount in wanted.values()):
            raise ValueError("an amount is no integer within +-(2^53 - 1)")
        if key in self.done:
            if self.done[key] != wanted:
                raise ValueError(f"movement {key} was made with other amounts")
            return False
        if sum(wanted.values()) != 0:
            raise ValueError(f"movement {key} does not conserve money: sum {sum(wanted.values())}")
        for account, amount in wanted.items():
            if account != self.OUTSIDE and self.balances.get(account, 0) + amount < 0:
                raise ValueError(f"movement {key} would leave {account} with {self.balances.get(account, 0) + amount}")
        for account, amount in wanted.items():
            self.balances[account] = self.balances.get(account, 0) + amount
        self.done[key] = wanted
        return True

    def total(self) -> int:
        """Return the sum over all accounts: always zero."""
        return sum(self.balances.values())
