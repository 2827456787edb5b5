"""Run the checks of the contract on one harness."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from . import nothing_lost
from .checks import CHECKS
from .harness import FieldHarness
from .helpers import Helper


class AdapterContractBroken(AssertionError):
    """An adapter does not keep the contract. `failures` maps the name of each failed check to its error.

    ```python
    assert "lists: of files" in AdapterContractBroken("MyODM", {"lists: of files": AssertionError("no")}).failures
    ```
    """

    def __init__(self, adapter: str, failures: dict[str, Exception]) -> None:
        self.failures = failures
        lines = [f"  {name}: {type(error).__name__}: {error}" for name, error in failures.items()]
        super().__init__(f"{adapter} fails {len(failures)} checks of the adapter contract:\n" + "\n".join(lines))


@dataclass(frozen=True)
class FieldAdapterCheck:
    """One check of the contract: `name` identifies it in `only=` and `unsupported`, `promise` describes it.

    ```python
    check: FieldAdapterCheck = field_adapter_checks()[0]
    ```
    """

    name: str
    promise: str
    _run: Callable[[Helper], Awaitable[None]]

    def __str__(self) -> str:
        return self.name

    async def __call__(self, harness: FieldHarness) -> None:
        """Run the check.

        Raises:
            AssertionError: The adapter breaks the promise, or passes a check that its harness lists as unsupported.
            Exception: Any other error of the adapter.
        """
        reason = harness.unsupported.get(self.name)
        if reason is None:
            await self._run(Helper(harness))
            return
        try:
            await self._run(Helper(harness))
        except Exception:  # noqa: BLE001  # An unsupported check may fail with any error.
            return
        raise AssertionError(f"{harness.name} passes {self.name!r}, but its harness lists it as unsupported: {reason}")


def field_adapter_checks() -> list[FieldAdapterCheck]:
    """Return every check, for example for `pytest.mark.parametrize(..., ids=str)`.

    ```python
    names = [check.name for check in field_adapter_checks()]
    ```
    """
    return [
        FieldAdapterCheck(name, (run.__doc__ or "").strip(), run)
        for name, run in {**CHECKS, **nothing_lost.CHECKS}.items()
    ]


async def check_field_adapter(harness: FieldHarness, *, only: Iterable[str] | None = None) -> list[str]:
    """Run the contract on an adapter. This takes a few seconds and needs a test database.

    ```python
    async def check_my_adapter(harness: FieldHarness) -> None:
        print(await check_field_adapter(harness, only=["lists: of files"]))
    ```

    Args:
        harness: The adapter to check.
        only: The names of the checks to run. By default all checks run.

    Returns:
        The names of the checks that passed.

    Raises:
        AdapterContractBroken: Checks failed. Every check runs before this is raised.
        ValueError: A name in `only` or in `harness.unsupported` is not the name of a check.
    """
    checks = {check.name: check for check in field_adapter_checks()}
    named = list(checks) if only is None else list(only)
    unknown = [name for name in [*named, *harness.unsupported] if name not in checks]
    if unknown:
        raise ValueError(
            f"there is no check named {', '.join(map(repr, unknown))}. The checks are: {', '.join(checks)}"
        )
    failures: dict[str, Exception] = {}
    for name in named:
        try:
            await checks[name](harness)
        except Exception as error:  # noqa: BLE001  # All failures are raised together below.
            failures[name] = error
    if failures:
        raise AdapterContractBroken(harness.name, failures) from next(iter(failures.values()))
    return [name for name in named if name not in harness.unsupported]
