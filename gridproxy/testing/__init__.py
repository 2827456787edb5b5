"""The contract of the adapter API: checks that every field adapter must pass, with or without pytest.

```python
from gridproxy.testing import AdapterContractBroken, FieldAdapterCheck, FieldHarness, check_field_adapter
from gridproxy.testing import field_adapter_checks
```
"""

from .contract import AdapterContractBroken, FieldAdapterCheck, check_field_adapter, field_adapter_checks
from .harness import FieldHarness

__all__ = ["AdapterContractBroken", "FieldAdapterCheck", "FieldHarness", "check_field_adapter", "field_adapter_checks"]
