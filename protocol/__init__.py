"""Why the results of an auction can be believed: commitments, log, draws, artifact, audits, penalties."""
