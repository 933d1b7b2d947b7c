"""
The command `pannier certify`: hold a storage to the contract, without a line of code.

A front for `pytest --pyargs pannier_testing.conformance --pannier-storage URL`, free of the pytest options of whatever
project stands in the current folder.
"""

import json
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import pytest
import typer

from pannier_testing.render import matrix
from pannier_testing.report import Verdict, report_from_json
from pannier_testing.trial import Profile

app = typer.Typer(pretty_exceptions_enable=False)  # they may print the values of variables, secrets among them

EXIT_CODES = {Verdict.CONFORMANT: 0, Verdict.NON_CONFORMANT: 1, Verdict.INCOMPLETE: 3}
"""What the command exits with; 2 is a command line that can't be understood."""


@app.command()
def certify(
    url: Annotated[str | None, typer.Argument(help="the storage, with {tmp} or {namespace} in its URL")] = None,
    *,
    profile: Annotated[Profile, typer.Option(help="how thoroughly")] = Profile.QUICK,
    seed: Annotated[int | None, typer.Option(help="repeat a run")] = None,
    rule: Annotated[list[str] | None, typer.Option(help="only this rule; repeatable")] = None,
    adapter: Annotated[list[str] | None, typer.Option(help="import path of a plugin that is not installed")] = None,
    expect: Annotated[str | None, typer.Option(help="fail unless this is the verdict, to the letter")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the report")] = None,
    badge: Annotated[Path | None, typer.Option(help="write a shields.io badge")] = None,
    processes: Annotated[int, typer.Option("-n", help="run in several processes (needs pytest-xdist)")] = 0,
    compare: Annotated[list[Path] | None, typer.Option(help="print a table of JSON reports; repeatable")] = None,
) -> None:
    """
    Hold a storage to every rule of the contract, and say whether it is conformant.

    Exits with 0 when it is (or, with --rule, nothing failed), 1 when it is not or the verdict is another than
    expected, 3 when the answer is incomplete.
    """
    if compare and url is not None:
        raise typer.BadParameter(f"--compare takes a file each time, and tries no storage; write --compare {url!r}")
    if compare:
        typer.echo(matrix([report_from_json(json.loads(path.read_text("utf-8"))) for path in compare]))
        return
    if url is None:
        raise typer.BadParameter("name the storage, such as 'sqlite:///{tmp}/jobs.db'")
    if processes and find_spec("xdist") is None:
        raise typer.BadParameter("-n needs another package: pip install pytest-xdist")
    with tempfile.TemporaryDirectory() as folder:
        report = json_file or Path(folder, "report.json")
        ini = Path(folder, "pytest.ini")
        # The suite is imported by the command itself, before pytest could rewrite its assertions, which it needs not.
        ini.write_text("[pytest]\nfilterwarnings = ignore::pytest.PytestAssertRewriteWarning\n", "utf-8")
        arguments = [
            "--pyargs",
            "pannier_testing.conformance",
            f"--config-file={ini}",
            f"--rootdir={folder}",
            "-q",
            "--no-header",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:asyncio",  # asks for settings of its own, and has nothing to do here
            f"--pannier-storage={url}",
            f"--pannier-profile={profile}",
            f"--pannier-json={report}",
            *([] if seed is None else [f"--pannier-seed={seed}"]),
            *([] if badge is None else [f"--pannier-badge={badge}"]),
            *([] if expect is None else [f"--pannier-expect={expect}"]),
            *(f"--pannier-rule={number}" for number in rule or ()),
            *(f"--pannier-adapter={path}" for path in adapter or ()),
            *([f"-n{processes}"] if processes else []),
        ]
        code = int(pytest.main(arguments))
        if rule or not report.exists():
            raise typer.Exit(code)
        raise typer.Exit(EXIT_CODES[report_from_json(json.loads(report.read_text("utf-8"))).verdict] or code)
