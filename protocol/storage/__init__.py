"""Keeping bytes: atomic files and the private vault; the rules of the log live in `protocol.log`."""
