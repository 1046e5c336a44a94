"""`python -O`, where the assertions of asyncio and of this package are not made."""

import textwrap

from tests.children import python

_CLOSED_BY_ITS_FACTORY = """
    import asyncio
    import uringloop

    async def main():
        loop = asyncio.get_running_loop()
        made = []

        def factory():
            made.append(asyncio.Protocol())
            if len(made) == 2:
                server.close()
                both.set()
            return made[-1]

        both = asyncio.Event()
        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [await loop.create_connection(asyncio.Protocol, *address) for _ in range(2)]
        await both.wait()
        for transport, _ in clients:
            transport.close()
        await server.wait_closed()
        print("closed")

    uringloop.run(asyncio.wait_for(main(), 10))
"""


def test_a_connection_of_a_closed_server_counts() -> None:
    """`Server._attach` asserts that the server is open; without the assertion the connection is made."""
    done = python(["-O", "-c", textwrap.dedent(_CLOSED_BY_ITS_FACTORY)])
    assert (done.stdout, done.stderr) == ("closed\n", "")
