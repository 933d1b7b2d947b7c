"""Words: what a message calls a thing, and text from jobs that must not drive the terminal it is shown on."""


def printable(text: str) -> str:
    """Return *text* with its control characters written out, all but line ends."""
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in text
    )


def kind_of(value: object) -> str:
    """Return the name of the type of *value* with its article."""
    name = type(value).__qualname__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
