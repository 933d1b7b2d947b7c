"""
Running a page: its blocks in order, as a reader would, in a folder of the page's own.

- `python`: run in one namespace a page; a block with `await` at its top level runs on the page's one event loop.
- a block with a caption, or a file that is included under one: written to the file that the caption names. Python,
  TOML, JSON, YAML and INI must parse.
- `console`: each line behind `$ `, with those behind `> ` that go on with it, is run by bash; the lines below are what
  it prints, `...` standing for anything. A command that ends in `&` runs on until the page ends, and is then asked to
  stop. `pip install` is not done again: what it names must be a distribution of this project, or one that is installed,
  with the extras named.
- `output`: what the Python block before it printed, `...` standing for anything.
"""

import ast
import asyncio
import builtins
import configparser
import contextlib
import doctest
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from inspect import iscoroutine
from pathlib import Path
from types import FunctionType, ModuleType

import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own
from attrs import define, field
from packaging.requirements import Requirement

from tests.docs.blocks import Block

COMMAND_SECONDS = 60
PAGE = "page"


class PageError(AssertionError):
    """A block of a page does not do what the page says."""


def page_module() -> ModuleType:
    """Return the module that a page's Python blocks are run in."""
    module = ModuleType(PAGE)
    vars(module)["__builtins__"] = builtins
    return module


@define
class Reader:
    """Somebody who follows a page to the letter: in *folder*, with *environment*, on one event loop."""

    page: Path
    folder: Path
    environment: Mapping[str, str]
    runner: asyncio.Runner
    module: ModuleType = field(factory=page_module)
    printed: str = ""
    background: list[subprocess.Popen[str]] = field(factory=list)

    def follow(self, block: Block) -> None:
        """Do what *block* says."""
        if block.caption:
            self.write(block)
            return
        match block.language:
            case "python":
                self.run_python(block)
            case "console":
                self.run_console(block)
            case "output":
                self.compare_output(block)
            case "json" | "toml" as language:
                PARSERS[language](block.text)
            case other:
                raise PageError(f"{self.page}:{block.line}: nothing runs a block in {other or 'no language'!r}")

    def write(self, block: Block) -> None:
        """Make the file that *block* is, once it parses."""
        PARSERS.get(block.language, str)(block.text)
        file = self.folder / block.caption
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)

    def run_python(self, block: Block) -> None:
        """Run *block* and keep what it prints."""
        code = compile(
            "\n" * (block.line - 1) + block.text, str(self.page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True
        )
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            unfinished = FunctionType(code, vars(self.module))()
            if iscoroutine(unfinished):
                self.runner.run(unfinished)
        self.printed = out.getvalue()

    def run_console(self, block: Block) -> None:
        """Run each command of *block* and hold what it prints against the lines below it."""
        for command, expected in commands_of(block.text):
            self.run_command(block, command, expected)

    def run_command(self, block: Block, command: str, expected: str) -> None:
        """Run one *command* line."""
        if command.startswith("pip install "):
            check_installed(command.removeprefix("pip install "))
            return
        process = self.start(command.removesuffix("&"))
        if command.endswith("&"):
            self.background.append(process)
            return
        printed, _ = process.communicate(timeout=COMMAND_SECONDS)
        as_expected = agree(expected, printed) if expected else process.returncode == 0
        if not as_expected:
            told = f"`{command}` ended with {process.returncode} and printed\n{printed}"
            raise PageError(f"{self.page}:{block.line}: {told}expected:\n{expected or 'success'}")

    def start(self, command: str) -> subprocess.Popen[str]:
        """Start *command* as a shell in the page's folder does."""
        return subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def compare_output(self, block: Block) -> None:
        """Hold *block* against what the Python block before it printed."""
        if not agree(block.text, self.printed):
            raise PageError(f"{self.page}:{block.line}: expected\n{block.text}\nprinted\n{self.printed}")

    def leave(self) -> None:
        """Stop what still runs in the background."""
        for process in self.background:
            process.send_signal(signal.SIGTERM)
        for process in self.background:
            printed, _ = process.communicate(timeout=COMMAND_SECONDS)
            if process.returncode not in (0, -signal.SIGTERM):
                raise PageError(f"{self.page}: a command in the background ended with {process.returncode}:\n{printed}")


PARSERS: Mapping[str, Callable[[str], object]] = {
    "python": ast.parse,
    "toml": tomllib.loads,
    "json": json.loads,
    "yaml": yaml.safe_load,
    "ini": lambda text: configparser.ConfigParser(interpolation=None).read_string(text),
}


def agree(expected: str, printed: str) -> bool:
    """Tell whether *printed* is what was *expected*: `...` stands for anything, any white space for any other."""
    return doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


def commands_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with what it is said to print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        first, *rest = part.splitlines()
        further = list(itertools.takewhile(lambda line: line.startswith("> "), rest))
        yield "\n".join([first, *(line[2:] for line in further)]), "".join(f"{line}\n" for line in rest[len(further) :])


def check_installed(requirements: str) -> None:
    """Fail where `pip install` would: each of *requirements* must name a distribution that is here, and its extras."""
    for text in re.findall(r"[^\s'\"]+", requirements):
        requirement = Requirement(text)
        extras = metadata.metadata(requirement.name).get_all("Provides-Extra") or []
        missing = requirement.extras - set(extras)
        if missing:
            raise PageError(f"{requirement.name} has no extra {', '.join(sorted(missing))}")


@contextlib.contextmanager
def reading(page: Path, folder: Path, environment: Mapping[str, str]) -> Iterator[Reader]:
    """Read *page* from within *folder*, and leave nothing running."""
    before = Path.cwd(), list(sys.path)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        with asyncio.Runner() as runner:
            reader = Reader(page, folder, environment, runner)
            sys.modules[reader.module.__name__] = reader.module
            try:
                yield reader
            finally:
                reader.leave()
    finally:
        os.chdir(before[0])
        sys.path[:] = before[1]
        for name in [name for name, module in sys.modules.items() if is_of(module, folder)]:
            del sys.modules[name]


def is_of(module: ModuleType, folder: Path) -> bool:
    """Tell whether *module* was imported from *folder*, or is a page's own."""
    file = getattr(module, "__file__", None)
    return module.__name__ == PAGE or (file is not None and folder in Path(file).parents)
