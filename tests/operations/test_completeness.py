"""Every opcode has a class, every class a test that uses it and one in which it fails."""

import importlib
import re
from pathlib import Path

import pytest

from tests.operations.covering import FAILING, WORKING
from uringloop import operations
from uringloop.operations import Operation
from uringloop.ring import Opcode

#: Where this machine cannot use it, with what it would take: the test that asserts the error is enough.
NOT_HERE = {operations.ReceiveZeroCopy: "a network card with a queue for it, and a ring of 32-byte CQEs"}
#: The loop's own: callbacks that tests/loop shows at length.
LOOPS_OWN = {operations.Poll, operations.AcceptMany}


def kinds() -> list[type[Operation]]:
    exported = [getattr(operations, name) for name in operations.__all__]
    return [
        kind for kind in exported if isinstance(kind, type) and issubclass(kind, Operation) and "opcode" in dir(kind)
    ]


@pytest.fixture(scope="module", autouse=True)
def _all_tests_imported() -> None:
    for path in Path(__file__).parent.glob("test_*.py"):
        importlib.import_module(f"tests.operations.{path.stem}")


@pytest.mark.parametrize("opcode", list(Opcode), ids=lambda opcode: opcode.name)
def test_every_opcode_has_a_class(opcode: Opcode) -> None:
    assert [kind for kind in kinds() if kind.opcode is opcode]


def test_opcodes_go_up_to_pipe() -> None:
    assert [int(opcode) for opcode in Opcode][: Opcode.PIPE + 1] == list(range(Opcode.PIPE + 1))


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_class_is_used_and_made_to_fail(kind: type[Operation]) -> None:
    if kind in LOOPS_OWN:
        return
    assert WORKING[kind] or kind in NOT_HERE
    assert FAILING[kind]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_class_names_what_it_does(kind: type[Operation]) -> None:
    assert kind.__doc__
    assert len(kind.__doc__.splitlines()[0]) > 20


def test_the_table_in_the_docs_has_every_opcode_and_class() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| ([A-Z0-9_]+) \| (.+?) \| (.+?) \| (\d.*?) \| (.+) \|$", text, flags=re.M)
    assert [row[0] for row in rows] == [opcode.name for opcode in Opcode]
    for name, classes, *_ in rows:
        told = set(re.findall(r"`(\w+)`", classes))
        assert {kind.__name__ for kind in kinds() if kind.opcode.name == name} == told - {"Chain"}
