"""The escrow: which stakes a manifest must name, what settlements move, and the account book (spec 6.2, 9.9, 9.14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from protocol.encoding import MAX_INTEGER
from protocol.errors import VerificationError
from protocol.manifest import Manifest
from protocol.penalties import gain_bound, penalty_epochs, penalty_stream

POOL = "pool"  # account that receives forfeited money
ESCROW = "escrow"  # account that holds charges until their epoch is settled


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
