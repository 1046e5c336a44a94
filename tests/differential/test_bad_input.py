"""Whatever is wrong with a call, it fails as asyncio's does, and leaves nothing open."""

from pathlib import Path

import pytest

from tests.variants import DEFAULT, FACTORIES

from .calls import CONNECTIONS, DEBUG_MODE, DELIBERATE, SCHEDULING, SOCKETS, WORDED_BY_PYTHON
from .outcomes import called_while_running


@pytest.mark.parametrize("row", SCHEDULING + SOCKETS + CONNECTIONS)
def test_a_bad_call_fails_as_with_asyncio(row: str, folder: Path) -> None:
    expected = called_while_running(row, FACTORIES["asyncio"], folder)
    actual = called_while_running(row, FACTORIES[DEFAULT], folder)
    assert actual.result == expected.result
    assert actual.told == expected.told
    # asyncio itself leaves some sockets to the garbage collector.
    assert actual.left_open <= expected.left_open


@pytest.mark.parametrize("row", DEBUG_MODE + SCHEDULING + SOCKETS)
def test_a_bad_call_fails_as_with_asyncio_in_debug_mode(row: str, folder: Path) -> None:
    expected = called_while_running(row, FACTORIES["asyncio"], folder, debug=True)
    assert called_while_running(row, FACTORIES[DEFAULT], folder, debug=True) == expected


@pytest.mark.parametrize("row", WORDED_BY_PYTHON)
def test_a_bad_call_raises_the_exception_that_asyncio_raises(row: str, folder: Path) -> None:
    expected = called_while_running(row, FACTORIES["asyncio"], folder)
    actual = called_while_running(row, FACTORIES[DEFAULT], folder)
    # Without the message.
    assert actual.result[:-1] == expected.result[:-1]
    assert (actual.told, actual.left_open) == ([], 0)


@pytest.mark.parametrize("row", DELIBERATE)
def test_where_asyncio_is_not_followed(row: str, folder: Path) -> None:
    actual = called_while_running(row, FACTORIES[DEFAULT], folder)
    assert (actual.result, actual.told, actual.left_open) == (DELIBERATE[row], [], 0)
