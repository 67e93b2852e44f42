"""What a session says of itself wherever it is judged (spec 1.6): its labels."""

from __future__ import annotations

from protocol.artifact.worker import Summary
from protocol.manifest import Manifest


def session_labels(manifest: Manifest) -> list[str]:
    """Return what a session must say of itself; the manifest's own labels come first, as the auctioneer's words.

    Without that it could write there what only the verifier may say (spec 1.6).
    """
    record = manifest.preset == "record"
    return [
        *(f"the auctioneer says: {text}" for text in manifest.labels),
        f"opening profile {manifest.profile}",
        "randomness: contributions only" if manifest.beacon == "none" else f"randomness: beacon {manifest.beacon}",
        _mailbox_label(manifest),
        f"disclosure: {manifest.disclosure}",
        f"gains: {manifest.money.gains}",
        *(
            ["last look possible: the auctioneer can read the bids before the close"]
            if manifest.profile == "P0"
            else []
        ),
        *([] if manifest.profile == "P1" and manifest.mailboxes else ["credible ex post only"]),
        *(["preset record: no penalty deters, winners of lotteries are not drawn again"] if record else []),
    ]


def mechanism_label(manifest: Manifest, summary: Summary, kind: str) -> str:
    """Return the mechanism's class, and of which values its file proves it truthful (spec 1.6, 3.16).

    Args:
        manifest: How it is run.
        summary: What the checks of the artifact gave.
        kind: Name of its class.
    """
    if not summary.certified:
        return f"mechanism: {kind}, not proved truthful"
    terms = [f"mechanism: {kind}", "proved truthful for additive values"]
    if manifest.charge == "realised":
        terms.append("to one fine unit")
    if manifest.support_rule == "clamp" and manifest.grid.minimum:
        terms.append(f"not below {manifest.grid.minimum}, to which bids are raised")
    return ", ".join(terms)


def _mailbox_label(manifest: Manifest) -> str:
    if not manifest.mailboxes:
        return "mailboxes: none, so a refused receipt cannot be proved"
    return f"mailboxes: {len(manifest.mailboxes)}, of which {manifest.faulty_mailboxes} may fail"
