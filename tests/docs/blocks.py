"""The code blocks of a page, read from its Markdown."""

from pathlib import Path

from attrs import field, frozen
from markdown_it import MarkdownIt
from markdown_it.token import Token

DIRECTIVES = {"{code-block}", "{not-run}"}
INCLUDE = "{literalinclude}"


@frozen
class Block:
    """
    A code block.

    Attributes:
        language: As written after the fence; empty where there is none.
        text: What is inside, without a directive's options.
        line: The line of the page on which the text begins, counted from 1.
        caption: The name of the file that the block is, or empty.
        because: Why nothing runs it; empty for a block that is run.
    """

    language: str
    text: str
    line: int
    caption: str = ""
    because: str = ""


@frozen
class Options:
    """What a directive's lines of options say."""

    values: dict[str, str] = field(factory=dict)
    lines: int = 0


def blocks_of(page: Path) -> list[Block]:
    """Return every code block of *page*, in order."""
    tokens = MarkdownIt("commonmark").parse(page.read_text())
    return [block for token in tokens for block in (*as_block(token), *as_included(token, page))]


def as_block(token: Token) -> list[Block]:
    """Return the code block that *token* is: one or none."""
    if token.type not in ("fence", "code_block"):
        return []
    start = token.map[0] + 2 if token.map else 0
    directive, _, argument = token.info.strip().partition(" ")
    if not directive.startswith("{"):
        return [Block(token.info.strip(), token.content, start)]
    if directive not in DIRECTIVES:
        return []
    options = options_of(token.content)
    return [
        Block(
            language=argument.strip(),
            text="".join(token.content.splitlines(keepends=True)[options.lines :]),
            line=start + options.lines,
            caption=options.values.get("caption", ""),
            because=options.values.get("because", ""),
        )
    ]


def as_included(token: Token, page: Path) -> list[Block]:
    """Return the file that *token* includes whole, under a caption: one or none."""
    directive, _, path = token.info.strip().partition(" ")
    if token.type != "fence" or directive != INCLUDE:
        return []
    values = options_of(token.content).values
    if "caption" not in values:
        return []
    text = (page.parent / path).read_text()
    return [Block(values.get("language", ""), text, token.map[0] + 1 if token.map else 0, values["caption"])]


def options_of(content: str) -> Options:
    """Return the options that a directive's *content* begins with, and how many lines they take."""
    values: dict[str, str] = {}
    lines = 0
    for line in content.splitlines():
        if not line.startswith(":"):
            break
        name, _, value = line[1:].partition(":")
        values[name] = value.strip()
        lines += 1
    blank = content.splitlines()[lines : lines + 1] == [""] and lines > 0
    return Options(values, lines + (1 if blank else 0))
