"""The end of the tests' output: which servers ran, and which faults the package survived.

It is a plugin, because with pytest-xdist the process that prints runs no tests. Each worker has a server of its own and
reports which one.
"""

from __future__ import annotations

from typing import Any

import pytest

from .faults.matrix import noted

__all__ = ["REPORT", "Report"]


class Report:
    """The servers of this process and, in the process that prints, those of its workers."""

    def __init__(self) -> None:
        self.servers: set[str] = set()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["servers"] = sorted(self.servers)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        # A worker that crashed reports nothing, and pytest-xdist shows the crash.
        self.servers.update(getattr(node, "workeroutput", {}).get("servers", ()))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        passed = terminalreporter.stats.get("passed", [])
        if lines := noted(each for report in passed for each in report.user_properties):
            terminalreporter.section("faults tried and survived")
            for line in lines:
                terminalreporter.write_line(line)
        for server in sorted(self.servers) or ["none was needed"]:
            terminalreporter.write_line(f"server: {server}")


REPORT = pytest.StashKey[Report]()
