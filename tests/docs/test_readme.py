"""Every Python block of the documents runs as written, and every command of theirs exists.

A python block runs by itself, in an empty folder.  Each line of a sh block must be known to `HANDLERS`: either it is
run here, or it is what another test or the Makefile runs, and then it is checked as far as is cheap.
"""

import ast
import configparser
import inspect
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

import uringloop
from tests.compat.libraries.needs import library
from tests.kernel import needs
from tests.tls import CERTIFICATE
from uringloop.ring import base
from uringloop.ring.trace import TRACEPOINTS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = tuple(
    sorted(
        str(path.relative_to(ROOT))
        for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/NOTES.md"]
    )
)
SERVER = "python examples/echo_server.py"


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / document).read_text(), flags=re.M | re.S)


def shell_lines(document: str) -> list[str]:
    return [line for block in blocks(document, "sh") for line in block.splitlines() if line]


def environment() -> dict[str, str]:
    """Such that `python` is the one that runs the tests."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONWARNINGS": "error"}


def shell(command: str, folder: str | Path = ROOT) -> str:
    """Run one line as a reader of README would, in the checkout; its standard output."""
    finished = subprocess.run(
        command, shell=True, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=100
    )
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


# Python blocks

#: asyncio of Python 3.11 reports a server's clients that are cancelled at the end, as if they had failed.
_CANCELLED_CLIENT = "Exception in callback StreamReaderProtocol.connection_made.<locals>.callback(<Task "


def imported(block: str) -> set[str]:
    trees = ast.walk(ast.parse(block))
    names = [name for node in trees for name in _modules_of(node)]
    return {name.partition(".")[0] for name in names}


def _modules_of(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def marked(texts: list[str], pattern: str) -> list[ParameterSet]:
    """Return parameters; those that the pattern finds a match in need io_uring, as a ring by hand does."""
    return [pytest.param(text, marks=[needs("io_uring")] if re.search(pattern, text) else []) for text in texts]


@pytest.mark.parametrize(
    "block", marked([block for document in DOCUMENTS for block in blocks(document, "python")], r"\bRing\((?!backend)")
)
def test_python_block_runs(block: str, tmp_path: Path) -> None:
    for name in imported(block):
        library(name)
    if CERTIFICATE.name in block:
        shutil.copy(CERTIFICATE, tmp_path)
    finished = subprocess.run(
        [sys.executable, "-X", "dev", "-c", block],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    # Debug mode logs a callback that a busy machine has delayed.
    told = [line for line in finished.stderr.splitlines() if not re.fullmatch("Executing .* took .* seconds", line)]
    if sys.version_info < (3, 12) and _CANCELLED_CLIENT in finished.stderr:
        told = []
    assert (finished.returncode, told) == (0, [])


# Other blocks


@pytest.mark.parametrize("document", DOCUMENTS)
def test_other_blocks_are_well_formed(document: str) -> None:
    """A block has a language that a test here knows, and its content is of that language."""
    text = (ROOT / document).read_text()
    assert set(re.findall(r"^```(\w+)$", text, flags=re.M)) <= {
        "python",
        "sh",
        "text",
        "toml",
        "ini",
        "yaml",
        "bpftrace",
    }
    for block in blocks(document, "toml"):
        tomllib.loads(block)
    for block in blocks(document, "ini"):
        configparser.ConfigParser().read_string(block if block.startswith("[") else f"[Service]\n{block}")
    for block in blocks(document, "yaml"):
        assert [
            line for line in block.splitlines() if not re.fullmatch(r" *(- )?[\w-]+(: \S+|:|[=/.\w-]*)", line)
        ] == []
    for block in blocks(document, "bpftrace"):
        assert set(re.findall(r"io_uring_\w+", block)) <= set(TRACEPOINTS)
        assert block.count("{") == block.count("}")


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name.startswith("docs/") or name == "README.md"])
def test_each_block_is_fenced(document: str) -> None:
    """An indented one would be in no test; the code of a list's entry is prose."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.M | re.S)
    assert re.findall(r"(?<=\n\n) {4}\S.*", text) == []


# Commands


def makes(line: str) -> None:
    """`make TARGET`: the target is there.  What it does is for the reader and for .ci/run."""
    target = line.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.M)


def installs(line: str) -> None:
    """Shown by tests/packaging, and by tools/venv, which did just that to run these tests."""


def runs_in_venv(line: str) -> None:
    shell(line.removeprefix("venv/bin/"))


def runs(line: str) -> None:
    shell(line)


def is_a_server(line: str) -> None:
    """It waits for a client: `test_echo_server_and_client`."""
    assert line.startswith(SERVER)


def is_a_client(line: str) -> None:
    """It needs a server: `test_echo_server_and_client`."""


def runs_pytest(line: str) -> None:
    """`$python -m pytest FOLDER`: the folder is there."""
    assert (ROOT / shlex.split(line)[-1]).is_dir()


def measures(line: str) -> None:
    """A benchmark: in its quick form, with the options that are given."""
    assert "uringloop" in shell(f"{line} --quick --cases open --contenders open uringloop --json /dev/null")


def prints_a_python(line: str) -> None:
    assert os.access(ROOT / line.removeprefix("python=$(").removesuffix(")"), os.X_OK)


def writes_a_profile(line: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "default.json").write_text('{"defaultAction": "SCMP_ACT_ERRNO"}')
        shell(line, folder)
        assert "io_uring_setup" in Path(folder, "uringloop.json").read_text()


def reads_a_profile(line: str) -> None:
    """`docker run` and its like, which need a daemon and an image: the option is there, if the program is."""
    program, run, *arguments = shlex.split(line)
    assert arguments[1:3] == ["--security-opt", "seccomp=uringloop.json"]
    if shutil.which(program):
        assert "--security-opt" in shell(f"{program} {run} --help")


def shows_a_profile(line: str) -> None:
    """It needs a node of Kubernetes."""
    assert line.endswith("> default.json")


def mounts(line: str) -> None:
    """It would change the machine: the file system and the folder are there."""
    _, _, kind, _, folder = line.split()
    if not Path(folder).is_dir():
        pytest.skip("a kernel without tracepoints")
    assert re.search(rf"\b{kind}$", Path("/proc/filesystems").read_text(), flags=re.M)


def traces(line: str) -> None:
    """It needs root and tracefs: the options are there, and tests/ring shows the rest."""
    assert "PID" in shell(f"{line.removesuffix(' PID')} --help").upper()


def counts_tracepoints(line: str) -> None:
    """It needs perf and root: the tracepoints are those that this package reads too."""
    assert set(re.findall(r"io_uring_\w+", line)) <= set(TRACEPOINTS)


def makes_a_certificate(line: str) -> None:
    """It may take a second: the file is the one that the block of Python asks for, and the options are there."""
    assert line.split()[-1] == CERTIFICATE.name
    if shutil.which("openssl"):
        options = shell("openssl req -help 2>&1")
        assert [word for word in re.findall(r" (-[a-z]\w+)", line) if f" {word} " not in options] == []


def lists_system_calls(line: str) -> None:
    if shutil.which(line.split()[0]) is None:
        pytest.skip("no systemd here")
    assert {"io_uring_setup", "io_uring_enter", "io_uring_register"} < set(shell(line).split())


def sets_a_kernel_variable(line: str) -> None:
    """It would allow io_uring to the whole machine: the variable is there."""
    path = Path("/proc/sys", line.split()[1].partition("=")[0].replace(".", "/"))
    if not path.exists():
        pytest.skip("Linux before 6.6 has no such variable")


HANDLERS: dict[str, Callable[[str], None]] = {
    r"make [\w-]+( .*)?": makes,
    r"python3 -m venv venv": installs,
    r"venv/bin/pip install -e \.": installs,
    r"venv/bin/python -m uringloop": runs_in_venv,
    r"python -m uringloop( --json)?": runs,
    r"python -m uringloop seccomp default\.json -o uringloop\.json": writes_a_profile,
    r"(docker|podman|nerdctl) run --rm .* python -m uringloop": reads_a_profile,
    r"crictl inspect CONTAINER \| jq .*": shows_a_profile,
    r"openssl req .*": makes_a_certificate,
    r"mount -t \w+ nodev \S+": mounts,
    r"python -m uringloop trace PID": traces,
    r"perf .*": counts_tracepoints,
    r"systemd-analyze syscall-filter @\w+": lists_system_calls,
    r"sysctl kernel\.\w+=\d": sets_a_kernel_variable,
    r"python examples/(copy_file|hello_ring)\.py( .*)?": runs,
    r"python examples/echo_server\.py .*": is_a_server,
    r"python examples/echo_client\.py .*": is_a_client,
    r"python -m benchmarks\.files .*": measures,
    r"python=\$\(tools/(venv|peers)\)": prints_a_python,
    r"\$python -m pytest \S+": runs_pytest,
}


@pytest.mark.parametrize(
    "line",
    marked(
        [line for document in DOCUMENTS for line in shell_lines(document)],
        # The doctor fails where io_uring is refused.
        r"^(venv/bin/)?python (-m uringloop( --json)?|examples/hello_ring\.py)$",
    ),
)
def test_command_is_right(line: str) -> None:
    handlers = [handler for pattern, handler in HANDLERS.items() if re.fullmatch(pattern, line)]
    assert handlers, "a command that nothing here checks"
    handlers[0](line)


def commands(document: str) -> list[str]:
    """Return the commands of Python and make in a page's text and tables."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.M | re.S)
    return [" ".join(code.split()) for code in re.findall(r"`((?:python|make) [^`]+)`", text)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_the_text_are_right(document: str) -> None:
    """What they name is there: a target, a file of tests, or a module and its options."""
    for command in commands(document):
        program, *words = shlex.split(command)
        if program == "make":
            makes(command)
        elif words[:2] == ["-m", "pytest"]:
            assert [word for word in words[2:] if not (ROOT / word).exists()] == [], command
        elif words[0] == "-m" and words[1].startswith(("benchmarks", "tests")):
            has_options(words[1], words[2:])


def has_options(module: str, words: list[str]) -> None:
    """Assert that a module exists, and that it or one beside it names each option and choice."""
    path = ROOT / module.replace(".", "/")
    file = next(each for each in (path.with_suffix(".py"), path / "__main__.py") if each.exists())
    known = "".join(each.read_text() for each in file.parent.glob("*.py"))
    unknown = [word for word in words if re.match(r"-|[a-z]+$", word) and word.lstrip("-") not in known]
    assert unknown == [], module


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name.startswith("docs/")])
def test_each_page_has_a_command(document: str) -> None:
    """It shows what the page says of speed or behaviour; docs/decisions.md leads to the pages that have them."""
    assert commands(document) or shell_lines(document)


def test_echo_server_and_client() -> None:
    lines = shell_lines("README.md")
    server = next(line for line in lines if line.startswith(SERVER))
    client = next(line for line in lines if line.startswith("python examples/echo_client.py"))
    port = free_port()
    process = subprocess.Popen(
        shlex.split(on_port(server, port)), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("listening on")
            assert re.search(r"messages in .* s: \d+ messages/s", shell(on_port(client, port)))
        finally:
            process.send_signal(signal.SIGINT)
        assert process.stdout.read().startswith("served 64 connections")
    assert process.returncode == 0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def on_port(line: str, port: int) -> str:
    changed = re.sub(r"--port \d+", f"--port {port}", line)
    assert changed != line
    return changed


# What is said


def test_buffer_sizes_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "asyncio.md").read_text()
    for count in (base.BUFFER_COUNT, base.BUFFER_COUNT_MAX):
        assert f"{count * base.BUFFER_SIZE_BYTES >> 20} MiB" in text


def first_column(document: str, heading: str) -> list[str]:
    section = (ROOT / document).read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| ([^|]+) \|", section, flags=re.M)[1:]


def test_options_are_those_of_the_loop() -> None:
    told = re.findall(r"`(\w+)", " ".join(first_column("docs/loop.md", "Options")))
    assert told == list(inspect.signature(uringloop.EventLoop).parameters)


def test_counters_are_those_of_the_loop() -> None:
    told = set(re.findall(r"\w+", " ".join(first_column("docs/tracing.md", "Counters"))))
    loop = uringloop.new_event_loop()
    counters = loop.statistics()
    loop.close()
    assert told == set(counters)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_exist(document: str) -> None:
    paths = r"`((?:uringloop|tests|examples|benchmarks|tools|\.ci)/[\w./]*)`"
    links = r"\]\(([\w./]+\.md)\)"
    named = re.findall(f"{paths}|{links}", (ROOT / document).read_text())
    here = (ROOT / document).parent
    missing = [path or link for path, link in named if not (ROOT / path if path else here / link).exists()]
    assert not missing
