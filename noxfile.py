"""Sessions for nox. Each calls what `python -m` runs as well, in the environment that runs nox: `nox -s lint`."""

import sys

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "tests", "oldest"]


def _run(session: nox.Session, module: str, *arguments: str) -> None:
    session.run(sys.executable, "-m", module, *arguments, *session.posargs, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, rules and the layers of the rooms."""
    _run(session, "tests", "--only=format,rules,layers")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy and pyright."""
    _run(session, "tests", "--only=types")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests and demand their branch coverage, then try the wheel."""
    _run(session, "tests", "--only=tests,coverage,packaging")


@nox.session
def newest(session: nox.Session) -> None:
    """Run the suite on the newest Python here, with the newest versions of all extras."""
    _run(session, "tests.newest")


@nox.session
def oldest(session: nox.Session) -> None:
    """Run the tests of the adapters on the oldest versions that the extras allow."""
    _run(session, "tests.oldest")


@nox.session
def servers(session: nox.Session) -> None:
    """Run the suite on other servers than the embedded one."""
    _run(session, "tests.servers")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the guides and the API reference in `site/`."""
    _run(session, "tests.site")


@nox.session
def bench(session: nox.Session) -> None:
    """Compare the speed with other GridFS buckets."""
    _run(session, "tests.benchmarks")
