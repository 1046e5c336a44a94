"""Calls that would be right, on a loop that is closed: refused as asyncio refuses them."""

from pathlib import Path

import pytest

from tests.variants import DEFAULT, FACTORIES

from .outcomes import called_when_closed

CALLS = [
    "loop.close()",
    "loop.stop()",
    "loop.run_forever()",
    "loop.run_until_complete(loop.create_future())",
    "loop.is_running()",
    "loop.is_closed()",
    "loop.get_debug()",
    "loop.set_debug(True)",
    "loop.set_debug(False)",
    "loop.call_soon(callback)",
    "loop.call_soon_threadsafe(callback)",
    "loop.call_later(1, callback)",
    "loop.call_at(1, callback)",
    "loop.create_future()",
    "loop.get_exception_handler()",
    "loop.set_exception_handler(None)",
    "loop.set_task_factory(None)",
    "loop.get_task_factory()",
    "loop.run_in_executor(None, callback)",
    "loop.shutdown_asyncgens()",
    "loop.shutdown_default_executor()",
    "loop.getaddrinfo('localhost', 80)",
    "loop.getnameinfo(('127.0.0.1', 80))",
    "loop.add_reader(connected, callback)",
    "loop.add_writer(connected, callback)",
    "loop.remove_reader(connected)",
    "loop.remove_writer(connected)",
    "loop.add_signal_handler(signal.SIGUSR1, callback)",
    "loop.remove_signal_handler(signal.SIGUSR1)",
    "loop.sock_recv(silent, 5)",
    "loop.sock_recv_into(silent, bytearray(5))",
    "loop.sock_recvfrom(datagram, 5)",
    "loop.sock_recvfrom_into(datagram, bytearray(5))",
    "loop.sock_sendall(stuffed, bytes(1 << 20))",
    "loop.sock_connect(unconnected, used)",
    "loop.sock_connect(unconnected, refused)",
    "loop.sock_accept(listener)",
    "loop.create_connection(Protocol, *used)",
    "loop.create_connection(Protocol, 'localhost', 1)",
    "loop.create_connection(Protocol, sock=connected)",
    "loop.create_connection(Protocol, sock=connected, ssl=context, server_hostname='localhost')",
    "loop.create_unix_connection(Protocol, sock=connected)",
    "loop.create_server(Protocol, sock=listener)",
    "loop.create_server(Protocol, sock=listener, ssl=context)",
    "loop.create_unix_server(Protocol, missing)",
    "loop.connect_accepted_socket(Protocol, connected)",
    "loop.connect_accepted_socket(Protocol, connected, ssl=context)",
    "loop.create_datagram_endpoint(Datagrams, local_addr=('127.0.0.1', 0))",
    "loop.create_datagram_endpoint(Datagrams, sock=datagram)",
    "loop.create_datagram_endpoint(Datagrams, sock=unix_datagram)",
]


@pytest.mark.parametrize("row", CALLS)
def test_a_closed_loop_does_as_asyncio_s(row: str, folder: Path) -> None:
    expected = called_when_closed(row, FACTORIES["asyncio"], folder)
    actual = called_when_closed(row, FACTORIES[DEFAULT], folder)
    assert (actual.result, actual.told) == (expected.result, expected.told)
    assert actual.left_open <= expected.left_open


@pytest.mark.parametrize(
    "row",
    [
        "loop.sock_recv(connected, 5)",
        "loop.sock_recv(closed, 5)",
        "loop.sock_sendall(connected, b'x')",
        "loop.sock_connect(unix, missing)",
        "loop.create_unix_connection(Protocol, missing)",
    ],
)
def test_a_closed_loop_carries_nothing_even_where_asyncio_need_not_wait(row: str, folder: Path) -> None:
    actual = called_when_closed(row, FACTORIES[DEFAULT], folder)
    assert actual.result == ("raised", "RuntimeError", "Event loop is closed")
    assert (actual.told, actual.left_open) == ([], 0)
