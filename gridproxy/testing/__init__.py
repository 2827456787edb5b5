"""The contract that every field adapter keeps, as a suite to run: with pytest, or with nothing."""

from .contract import AdapterContractBroken, FieldAdapterCheck, check_field_adapter, field_adapter_checks
from .harness import FieldHarness

__all__ = [
    "AdapterContractBroken",
    "FieldAdapterCheck",
    "FieldHarness",
    "check_field_adapter",
    "field_adapter_checks",
]
