"""Which test shows what of which opcode: `test_completeness` counts.

A test is skipped where the kernel lacks one of its operations.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

from tests.kernel import needs
from uringloop.operations import Operation

Test = TypeVar("Test", bound=Callable[..., object])

#: Tests that use an operation for what it is for, and such in which it fails, by the operation's class.
WORKING: dict[type[Operation], list[str]] = defaultdict(list)
FAILING: dict[type[Operation], list[str]] = defaultdict(list)


def works(*kinds: type[Operation]) -> Callable[[Test], Test]:
    """The test uses these operations for what they are for."""
    return _recorder(WORKING, kinds)


def fails(*kinds: type[Operation]) -> Callable[[Test], Test]:
    """The test makes these operations fail, and looks at the error."""
    return _recorder(FAILING, kinds)


def _recorder(table: dict[type[Operation], list[str]], kinds: tuple[type[Operation], ...]) -> Callable[[Test], Test]:
    def record(test: Test) -> Test:
        for kind in kinds:
            table[kind].append(test.__name__)
        return needs(*kinds)(test)

    return record
