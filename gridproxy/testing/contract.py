"""The suite: every check by its name, run over one harness."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from . import changes, chapter, holdings, limits
from .harness import FieldHarness
from .trial import Trial


class AdapterContractBroken(AssertionError):
    """An adapter does not keep the contract; `failures` has the error of each check that failed, by its name."""

    def __init__(self, adapter: str, failures: dict[str, Exception]) -> None:
        self.failures = failures
        lines = [f"  {name}: {type(error).__name__}: {error}" for name, error in failures.items()]
        super().__init__(
            f"{adapter} fails {len(failures)} checks of the field adapter's contract:\n" + "\n".join(lines)
        )


@dataclass(frozen=True)
class FieldAdapterCheck:
    """One behaviour of the contract. `await check(harness)` raises `AssertionError`, or what went wrong.

    `name` is what `only=` and `unsupported` call it by, `promise` says what has to be so.
    """

    name: str
    promise: str
    _run: Callable[[Trial], Awaitable[None]]

    def __str__(self) -> str:
        return self.name

    async def __call__(self, harness: FieldHarness) -> None:
        """Run it; a check that the harness calls unsupported must fail: `AssertionError` where it does not."""
        reason = harness.unsupported.get(self.name)
        if reason is None:
            await self._run(Trial(harness))
            return
        try:
            await self._run(Trial(harness))
        except Exception:  # noqa: BLE001  # however it fails: it was said that it would
            return
        raise AssertionError(f"{harness.name} passes {self.name!r}, and its harness says that it cannot: {reason}")


def field_adapter_checks() -> list[FieldAdapterCheck]:
    """Every check, in the order in which they are worth reading: for `pytest.mark.parametrize(..., ids=str)`."""
    return [
        FieldAdapterCheck(name, (run.__doc__ or "").strip(), run)
        for checks in (chapter.CHECKS, changes.CHECKS, holdings.CHECKS, limits.CHECKS)
        for name, run in checks.items()
    ]


async def check_field_adapter(harness: FieldHarness, *, only: Iterable[str] | None = None) -> list[str]:
    """Run the contract over an adapter, all checks of it or those named; gives back the names of what was passed.

    Every check is run, even after one has failed; raises `AdapterContractBroken` with all failures, `ValueError` for a
    name that no check has (in `unsupported` too). Takes a few seconds, and a database for trials.
    """
    checks = {check.name: check for check in field_adapter_checks()}
    named = list(checks) if only is None else list(only)
    unknown = [name for name in [*named, *harness.unsupported] if name not in checks]
    if unknown:
        raise ValueError(f"no check is called {', '.join(map(repr, unknown))}; there are: {', '.join(checks)}")
    failures: dict[str, Exception] = {}
    for name in named:
        try:
            await checks[name](harness)
        except Exception as error:  # noqa: BLE001  # collected, and raised below
            failures[name] = error
    if failures:
        raise AdapterContractBroken(harness.name, failures) from next(iter(failures.values()))
    return [name for name in named if name not in harness.unsupported]
