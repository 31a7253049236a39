"""Cases that are known to fail, and why. An entry whose case passes fails the run: remove it."""

KNOWN: dict[str, str] = {}
