"""The public host's workflows: what they use cannot change underneath, and they may do no more than they need."""

import re

import pytest

from tests.children import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
each_workflow = pytest.mark.parametrize(
    "workflow", [path.read_text() for path in WORKFLOWS], ids=[p.stem for p in WORKFLOWS]
)


@each_workflow
def test_actions_are_pinned_by_hash(workflow: str) -> None:
    used = re.findall(r"uses: (.*)", workflow)
    assert used
    for action in used:
        assert re.fullmatch(r"\$/\.github/workflows/\S+|[\w/-]+@[0-9a-f]{40} # v[\d.]+", action), action


@each_workflow
def test_each_job_is_given_its_permissions(workflow: str) -> None:
    assert "\npermissions: {}\n" in workflow
    jobs = workflow.split("\njobs:\n")[1]
    assert jobs.count("\n    permissions:\n") == len(re.findall(r"^  \w+:$", jobs, re.MULTILINE))


@each_workflow
def test_every_job_ends(workflow: str) -> None:
    assert workflow.count("timeout-minutes:") == workflow.count("runs-on:")


def test_the_commands_of_make_exist() -> None:
    """A workflow calls only targets that the Makefile has, and tools that are there."""
    texts = "\n".join(path.read_text() for path in WORKFLOWS)
    targets = set(re.findall(r"run: make ([\w-]+)", texts))
    assert targets
    assert targets <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for tool in re.findall(r"run: (tools/\w+)", texts):
        assert (ROOT / tool).is_file()
