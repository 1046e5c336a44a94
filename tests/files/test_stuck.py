"""Programs end, whatever a pipe that nobody reads still owes: after a timeout around `close`, or one Ctrl-C."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.children import ROOT, environment

TIMEOUT_SECONDS = 20

BEGINNING = """
    import asyncio, contextlib, os, sys
    import uringloop
    from uringloop import files

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(65536))
    os.set_blocking(writer, True)
    def without_companion():
        loop = asyncio.SelectorEventLoop()
        loop._uringloop_companion = None
        return loop

    factories = {"companion": asyncio.SelectorEventLoop, "threads": without_companion}

    def run(main):
        with asyncio.Runner(loop_factory=factories.get(sys.argv[1], uringloop.EventLoop)) as runner:
            runner.run(main)

    mode = sys.argv[2]
    data = "x" if mode == "w" else b"x"

    async def opened():
        return await files.open(writer, mode)
"""

WAYS = ["own", "companion", "threads"]


def started(main: str, way: str, *arguments: str) -> "subprocess.Popen[str]":
    source = textwrap.dedent(BEGINNING) + textwrap.dedent(main)
    command = [sys.executable, "-W", "error", "-c", source, way, *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(process: "subprocess.Popen[str]") -> str:
    """What it printed; it ends by itself."""
    try:
        return process.communicate(timeout=TIMEOUT_SECONDS)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"it does not end: {process.communicate()[0]}")


@pytest.mark.parametrize("mode", ["w", "wb"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", ["pass", "asyncio.create_task(file.flush()); await asyncio.sleep(0.01)"])
def test_timeout_around_close(way: str, mode: str, before: str) -> None:
    main = f"""
    async def main():
        file = await opened()
        await file.write(data)
        {before}
        try:
            async with asyncio.timeout(0.1):
                await file.close()
        except TimeoutError:
            print("main ends", flush=True)

    run(main())
    print("and the program", flush=True)
    """
    process = started(main, way, mode)
    assert ended(process) == "main ends\nand the program\n"
    assert process.returncode == 0


@pytest.mark.parametrize("mode", ["w", "wb"])
@pytest.mark.parametrize("way", WAYS)
def test_one_interrupt_is_enough(way: str, mode: str) -> None:
    main = """
    async def main():
        async with await opened() as file:
            await file.write(data)
            print("waiting", flush=True)

    try:
        run(main())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    """
    process = started(main, way, mode)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    assert ended(process) == "interrupted\n"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["r", "rb"])
def test_reads_and_opens_that_never_end(tmp_path: Path, way: str, mode: str) -> None:
    main = """
    async def main():
        empty, held = os.pipe()
        os.mkfifo(sys.argv[3])
        file = await files.open(empty, mode)
        for call in (files.open(sys.argv[3], mode).__aenter__, file.read):
            try:
                async with asyncio.timeout(0.1):
                    await call()
            except TimeoutError:
                print("main goes on", flush=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await file.close()

    run(main())
    print("and the program ends", flush=True)
    """
    process = started(main, way, mode, str(tmp_path / "fifo"))
    assert ended(process) == "main goes on\nmain goes on\nand the program ends\n"
