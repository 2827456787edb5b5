"""What the tests tell at the end of a run: which servers they had, and which faults were survived.

A plugin, because with pytest-xdist the process that prints is not one of those that test: each of these has a server
of its own, and hands over what it noted.
"""

from __future__ import annotations

from typing import Any

import pytest

from .faults.ledger import Ledger

__all__ = ["REPORT", "Report"]


class Report:
    """What this process noted and, in the one that prints, what the others handed over."""

    def __init__(self) -> None:
        self.servers: set[str] = set()
        self.ledger = Ledger()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["report"] = {"servers": sorted(self.servers), "survived": list(self.ledger.entries())}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        # A worker that crashed hands nothing over; pytest-xdist says so itself.
        report = getattr(node, "workeroutput", {}).get("report")
        if report is not None:
            self.servers.update(report["servers"])
            for operation, fault, times in report["survived"]:
                self.ledger.survived(operation, fault, times)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = list(self.ledger.lines())
        if lines:
            terminalreporter.section("faults tried and survived")
            for line in lines:
                terminalreporter.write_line(line)
        for server in sorted(self.servers) or ["none was needed"]:
            terminalreporter.write_line(f"server: {server}")


REPORT = pytest.StashKey[Report]()
