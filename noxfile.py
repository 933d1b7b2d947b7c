"""
The project's checks, each of them a nox session.

`nox` runs what a change must pass on this Python, and on every other Python found on the machine the tests and the
conformance of the embedded storages. MongoDB's conformance has to be asked for: `nox -s 'conformance-3.13(mongo)'`.
`nox --list` says what each session is for.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = sorted({"3.11", "3.12", "3.13", "3.14", HERE}, key=lambda version: int(version.partition(".")[2]))
ELSEWHERE = [python for python in PYTHONS if python != HERE]

# Each has a session of its own.
APART = (
    "tests/conformance",
    "tests/saboteurs",
    "tests/engine/simulation",
    "tests/torture",
    "tests/packaging",
    "tests/docs",
)
EMBEDDED = {
    "memory": "memory://{namespace}",
    "sqlite": "sqlite:///{tmp}/jobs.db",
}
# Without the first option the driver finds its way past the fault proxy; on a busy machine the stand-in is slow.
MONGO = "{url}/{namespace}?directConnection=true&timeout=10"
SERVED = {
    "postgres": "{url}?schema={namespace}",
    "mongo": MONGO,
    "mongo-standalone": MONGO,
}
SERVERS = {
    "postgres": ("tests.servers.postgres",),
    "mongo": ("tests.servers.mongo",),
    "mongo-standalone": ("tests.servers.mongo", "--standalone"),
}
STORAGES = {**EMBEDDED, **SERVED}
VERDICTS = dict.fromkeys(STORAGES, "conformant 1.0 distributed + inspect, notify, results, transactions") | {
    "memory": "conformant 1.0 core + inspect, notify, results",
    "mongo-standalone": "conformant 1.0 distributed + inspect, results",  # it withholds what it can't do
}
TORTURED = ("sqlite", "postgres", "mongo")
AIDED = ("sqlite", "postgres", "mongo")  # whose own tests have the test aids that these rules need
AIDED_RULES = ("R56", "R76", "R115", "R116")

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = [
    "lint",
    "types",
    f"tests-{HERE}",
    *(f"conformance-{HERE}({storage})" for storage in (*EMBEDDED, "postgres")),
    "saboteurs",
    "simulation",
    "torture",
    "packaging",
    "docs",
    *(f"tests-{python}" for python in ELSEWHERE),
    *(f"conformance-{python}({storage})" for python in ELSEWHERE for storage in EMBEDDED),
]

SPREAD = "--numprocesses=4"  # over processes, more than a small machine has cores: much of a test's time is waiting
SPREAD_WIDE = ("--numprocesses=8", "--dist=worksteal")  # where four fifths of it is, and some tests are long


def show_pyenv_pythons() -> None:
    """Let nox find the Pythons that pyenv has installed but keeps out of sight, unless the user chose some himself."""
    if not shutil.which("pyenv"):
        return
    listed = subprocess.run(
        ["pyenv", "versions", "--bare", "--skip-aliases"], capture_output=True, text=True, check=False
    )
    installed = [version for version in listed.stdout.split() if version.rpartition(".")[0] in PYTHONS]
    installed.sort(key=lambda version: not version.startswith(f"{HERE}."))
    if installed:
        os.environ.setdefault("PYENV_VERSION", ":".join(installed))


def install(session: nox.Session, *groups: str) -> None:
    """Make the session's environment: the workspace's packages, editable, and the dependency groups named."""
    session.run_install(
        "uv",
        "sync",
        "--quiet",
        "--no-default-groups",
        *(f"--group={group}" for group in groups),
        f"--python={session.virtualenv.location}",
        env={"UV_PROJECT_ENVIRONMENT": session.virtualenv.location},
    )


show_pyenv_pythons()


@nox.session(tags=["quick"])
def lint(session: nox.Session) -> None:
    """Check style, format, the direction of imports, spelling and the changelog's fragments."""
    install(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")
    session.run("codespell")
    session.run("towncrier", "build", "--draft", "--version=next", silent=True)


@nox.session(tags=["quick"])
def types(session: nox.Session) -> None:
    """Check all types with mypy, and what users' checkers infer from the public API with pyright, too."""
    install(session, "types")
    session.run("mypy")
    session.run("pyright")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests of the parts, on one Python: `nox -s tests-3.13 -- -k lease`."""
    install(session, "test")
    session.run("pytest", SPREAD, *(f"--ignore={folder}" for folder in APART), *session.posargs)


@nox.session(python=PYTHONS)
@nox.parametrize("storage", [nox.param(storage, id=storage) for storage in STORAGES])
def conformance(session: nox.Session, storage: str) -> None:
    """Hold one storage to every rule of the contract: `nox -s 'conformance-3.13(sqlite)'`."""
    install(session, "test")
    server = ("python", "-m", *SERVERS[storage], "--") if storage in SERVERS else ()
    suite = ("pannier", "certify", STORAGES[storage], f"--expect={VERDICTS[storage]}", "-n2")
    session.run(*server, *suite, *session.posargs)
    if storage in AIDED:
        session.run(
            "pytest", f"tests/conformance/test_{storage}.py", *(f"--pannier-rule={rule}" for rule in AIDED_RULES)
        )


@nox.session
def saboteurs(session: nox.Session) -> None:
    """
    See the conformance suite catch every storage that is wrong on purpose, and pass every one that is right.

    `nox -s saboteurs -- --matrix` holds each to all rules, not only to the one that it breaks.
    """
    install(session, "test")
    if "--matrix" in session.posargs:
        session.run("python", "-m", "pannier_testing.saboteurs", *session.posargs)
    else:
        session.run("pytest", "tests/saboteurs", *SPREAD_WIDE, *session.posargs)


@nox.session
def simulation(session: nox.Session) -> None:
    """Run whole workers on virtual time, a thousand seeds of trouble: `python -m tests.engine.simulation --help`."""
    install(session, "test")
    session.run("pytest", "tests/engine/simulation", "--numprocesses=auto", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Try ten times the examples of bad input that the tests try; PANNIER_FUZZ_EXAMPLES says how many."""
    install(session, "test")
    examples = os.environ.get("PANNIER_FUZZ_EXAMPLES", "3000")
    session.run("pytest", "tests/fuzz", SPREAD, *session.posargs, env={"PANNIER_FUZZ_EXAMPLES": examples})


@nox.session
def torture(session: nox.Session) -> None:
    """
    Kill real workers on every durable storage, and lose nothing; see the rig find what is planted.

    `nox -s torture -- sqlite --kills 1000 --jobs 40000 --record reliability` tortures one of them as the options say.
    """
    install(session, "test")
    if session.posargs:
        session.run("python", "-m", "tests.servers.torture", *session.posargs)
        return
    session.run("pytest", "tests/torture")
    for storage in TORTURED:
        session.run("python", "-m", "tests.servers.torture", storage, "--kills=50", "--jobs=2000", "--pause=0.2")


@nox.session
def packaging(session: nox.Session) -> None:
    """Build the wheels, use them in a clean environment, and look at what the repository may not hold."""
    install(session, "test")
    session.run("pytest", "tests/packaging", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation, any warning an error, and run its code blocks."""
    install(session, "docs")
    session.run("sphinx-build", "-W", "-n", "-q", "-b", "html", "docs", "docs/_build/html")
    session.run("pytest", "tests/docs", *session.posargs)


@nox.session
def links(session: nox.Session) -> None:
    """Visit the documentation's external links. Needs the network; skipped where no site answers."""
    install(session, "docs")
    command = ("sphinx-build", "-q", "-b", "linkcheck", "docs", "docs/_build/links")
    session.run(*command, silent=True, success_codes=[0, 1])
    links = [json.loads(line) for line in Path("docs/_build/links/output.json").read_text().splitlines()]
    broken = [link for link in links if link["status"] in ("broken", "timeout")]
    if broken and not any(link["status"] in ("working", "redirected") for link in links):
        session.skip(f"NOT RUN: none of {len(broken)} links can be visited, as where there is no network")
    for link in broken:
        session.log(f"docs/{link['filename']}:{link['lineno']}: {link['uri']}: {link['info']}")
    if broken:
        session.error(f"broken links: {len(broken)}")


@nox.session
def audit(session: nox.Session) -> None:
    """Look the dependencies up among the known vulnerabilities. Needs the network; skipped where nobody answers."""
    install(session, "audit")
    command = ("pip-audit", "--local", "--skip-editable", "--progress-spinner=off", "--format=json")
    told = str(session.run(*command, silent=True, success_codes=[0, 1]))
    answers = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    packages = [package for answer in answers for package in answer["dependencies"]]
    audited = [package for package in packages if "vulns" in package]
    if not audited:
        session.skip("NOT RUN: the service does not answer, or knows none of the packages")
    vulnerable = [f"{package['name']} {package['version']}" for package in audited if package["vulns"]]
    unknown = [package["name"] for package in packages if "could not be audited" in str(package)]
    session.log(f"{len(audited)} packages audited; the service does not know: {', '.join(unknown) or 'none'}")
    if vulnerable:
        session.error(f"known vulnerabilities: {', '.join(vulnerable)}")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the storages and the worker against bare drivers. Takes a while, and wants the machine for itself."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)
