"""The page of the contract's rules, made from `contract.toml`."""

from collections.abc import Iterator
from pathlib import Path

from pannier_testing.rules import Rule, read_contract, read_sections

HEAD = Path(__file__).with_name("rules-head.md")


def rules_page() -> str:
    """Return the page."""
    rules = list(read_contract().values())
    parts = [HEAD.read_text()]
    for letter, title in read_sections().items():
        parts += [f"\n## {letter}. {title}\n", *section([rule for rule in rules if rule.section == letter])]
    return "".join(parts)


def section(rules: list[Rule]) -> Iterator[str]:
    """Yield each rule of a section: its number as an anchor, what it says, and why."""
    for rule in rules:
        facts = f"{', '.join(rule.levels)}; {', '.join(rule.how) or 'directly'}"
        held = " Held: no storage is asked for it yet." if rule.is_held else ""
        yield f"\n### {rule.number}\n\n*{facts}.*{held} {literal(rule.text)}\n\nWhy: {literal(rule.why)}\n"


def literal(text: str) -> str:
    """Return *text* with what Markdown would read as markup taken literally, outside of code."""
    parts = text.split("`")
    for index in range(0, len(parts), 2):
        for mark in ("\\", "*", "<", "[", "$"):
            parts[index] = parts[index].replace(mark, f"\\{mark}")
    return "`".join(parts)
