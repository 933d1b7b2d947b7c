"""Escaping: what comes out of a job must not drive the terminal that it is shown on."""


def printable(text: str) -> str:
    """Return *text* with its control characters written out, all but line ends."""
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in text
    )
