"""`python -m uringloop seccomp`: its changes of a profile, and that it changes nothing else."""

import difflib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import ROOT, environment, python
from uringloop.seccomp import CALLS, NotAProfileError, allow_io_uring

IO_URING = list(CALLS[:3])

#: Docker's layout and members: tabs, conditions, null, an escape, a large number.
DOCKER = """\
{
\t"defaultAction": "SCMP_ACT_ERRNO",
\t"defaultErrnoRet": 1,
\t"archMap": [
\t\t{
\t\t\t"architecture": "SCMP_ARCH_X86_64",
\t\t\t"subArchitectures": null
\t\t}
\t],
\t"syscalls": [
\t\t{
\t\t\t"names": [
\t\t\t\t"eventfd2",
\t\t\t\t"read"
\t\t\t],
\t\t\t"action": "SCMP_ACT_ALLOW"
\t\t},
\t\t{
\t\t\t"names": [
\t\t\t\t"personality"
\t\t\t],
\t\t\t"action": "SCMP_ACT_ALLOW",
\t\t\t"args": [
\t\t\t\t{
\t\t\t\t\t"index": 0,
\t\t\t\t\t"value": 18446744073709551615,
\t\t\t\t\t"op": "SCMP_CMP_EQ"
\t\t\t\t}
\t\t\t],
\t\t\t"comment": "a \\u003ccondition\\u003e, \\"quoted\\""
\t\t},
\t\t{
\t\t\t"names": [
\t\t\t\t"clone3"
\t\t\t],
\t\t\t"action": "SCMP_ACT_ERRNO",
\t\t\t"errnoRet": 38,
\t\t\t"excludes": {
\t\t\t\t"caps": [
\t\t\t\t\t"CAP_SYS_ADMIN"
\t\t\t\t]
\t\t\t}
\t\t}
\t]
}
"""
#: Podman refuses by rules beside its default, with members of its own.
PODMAN = """\
{
  "defaultAction": "SCMP_ACT_ERRNO",
  "defaultErrno": "ENOSYS",
  "syscalls": [
    {
      "names": [
        "bdflush",
        "io_uring_enter",
        "io_uring_register",
        "io_uring_setup",
        "kexec_load"
      ],
      "action": "SCMP_ACT_ERRNO",
      "args": [],
      "comment": "",
      "includes": {},
      "excludes": {},
      "errnoRet": 1,
      "errno": "EPERM"
    },
    {
      "names": ["eventfd2", "read"], "action": "SCMP_ACT_ALLOW", "args": []
    }
  ]
}
"""
#: The OCI's form, in one line.
OCI = (
    '{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],'
    '"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}'
)
#: Docker's form of before 2017.
OLD = """\
{
    "defaultAction": "SCMP_ACT_ERRNO",
    "syscalls": [
        {"name": "read", "action": "SCMP_ACT_ALLOW", "args": []},
        {"name": "io_uring_setup", "action": "SCMP_ACT_KILL", "args": null}
    ]
}
"""
BLOCKLIST = (
    '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["io_uring_setup"], "action": "SCMP_ACT_KILL"}]}'
)

PROFILES = {"docker": DOCKER, "podman": PODMAN, "oci": OCI, "old": OLD, "blocklist": BLOCKLIST}
each_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))


def allowed(profile: str) -> str:
    return allow_io_uring(profile)[0]


def changed_lines(before: str, after: str) -> tuple[list[str], list[str]]:
    """Return the lines that went and those that came, without their margins."""
    compared = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "-+"]
    gone, new = ([line[1:].strip() for line in compared if line[0] == sign] for sign in "-+")
    return gone, new


def test_dockers_profile_gets_a_rule_in_its_own_layout() -> None:
    after, changes = allow_io_uring(DOCKER)
    gone, new = changed_lines(DOCKER, after)
    assert gone == []
    assert json.loads("[{" + "".join(new).removeprefix("},{") + "}]") == [
        {"names": IO_URING, "action": "SCMP_ACT_ALLOW"},
    ]
    assert '\t\t},\n\t\t{\n\t\t\t"names": [\n\t\t\t\t"io_uring_setup",\n' in after
    assert changes == ["A new rule allows io_uring_setup, io_uring_enter, io_uring_register."]


def test_a_refusing_rule_loses_the_names() -> None:
    after, changes = allow_io_uring(PODMAN)
    gone, new = changed_lines(PODMAN, after)
    assert gone == ['"io_uring_enter",', '"io_uring_register",', '"io_uring_setup",']
    assert (
        "".join(new) == '},{"names": ["io_uring_setup","io_uring_enter","io_uring_register"],"action": "SCMP_ACT_ALLOW"'
    )
    assert json.loads(after)["syscalls"][0]["names"] == ["bdflush", "kexec_load"]
    assert changes[0] == "Rule 1 (SCMP_ACT_ERRNO) no longer names io_uring_enter, io_uring_register, io_uring_setup."


def test_a_profile_in_one_line_stays_in_one() -> None:
    rule = '{"names":["io_uring_setup","io_uring_enter","io_uring_register","eventfd2"],"action":"SCMP_ACT_ALLOW"}'
    assert allowed(OCI) == OCI.removesuffix("]}") + f",{rule}]}}"


def test_the_old_form_loses_the_rule() -> None:
    after, changes = allow_io_uring(OLD)
    rule = (
        '{"names": ["io_uring_setup", "io_uring_enter", "io_uring_register", "eventfd2"], "action": "SCMP_ACT_ALLOW"}'
    )
    assert after == OLD.replace('{"name": "io_uring_setup", "action": "SCMP_ACT_KILL", "args": null}', rule)
    assert len(changes) == 2


def test_a_list_of_refusals_needs_no_rule() -> None:
    assert allowed(BLOCKLIST) == '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}'


@each_profile
def test_a_second_time_changes_nothing(profile: str) -> None:
    once = allowed(profile)
    assert allow_io_uring(once) == (once, [])


@each_profile
@pytest.mark.parametrize("names", [["io_uring_enter"], ["eventfd2"], ["a", "eventfd2"], ["eventfd2", "b"]])
@pytest.mark.parametrize("place", [0, 1, 9])
def test_all_else_is_as_before(profile: str, names: list[str], place: int) -> None:
    """Whichever rule refuses them, and wherever it stands."""
    document = json.loads(profile)
    document["syscalls"].insert(place, {"names": names, "action": "SCMP_ACT_TRACE", "includes": {"minKernel": "5.1"}})
    for indent in (None, 1):
        after = json.loads(allowed(json.dumps(document, indent=indent)))
        rules = []
        for rule in document["syscalls"]:
            refuses = rule["action"] != "SCMP_ACT_ALLOW"
            kept = [name for name in rule.get("names", [rule.get("name")]) if not (refuses and name in CALLS)]
            if kept:
                rules.append({**rule, "names": kept} if "names" in rule else rule)
        if document["defaultAction"] != "SCMP_ACT_ALLOW":
            [*_, rule] = after["syscalls"]
            assert (rule["action"], rule["names"][:3]) == ("SCMP_ACT_ALLOW", IO_URING)
            rules.append(rule)
        assert after == {**document, "syscalls": rules}


@pytest.mark.parametrize(
    "condition", [{"args": [{"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}]}, {"includes": {"caps": ["CAP_SYS_ADMIN"]}}]
)
def test_a_permission_with_a_condition_is_none(condition: dict[str, object]) -> None:
    rule = {"names": list(CALLS), "action": "SCMP_ACT_ALLOW", **condition}
    after = json.loads(allowed(json.dumps({"defaultAction": "SCMP_ACT_KILL", "syscalls": [rule]})))
    assert after["syscalls"] == [rule, {"names": list(CALLS), "action": "SCMP_ACT_ALLOW"}]


def test_a_logged_call_is_allowed() -> None:
    profile = json.dumps(
        {"defaultAction": "SCMP_ACT_KILL", "syscalls": [{"names": [*CALLS], "action": "SCMP_ACT_LOG"}]}
    )
    assert allow_io_uring(profile) == (profile, [])


@pytest.mark.parametrize("rest", ["", ', "syscalls": null', ', "syscalls": []', ', "syscalls": [\n]'])
@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"])
def test_a_profile_without_rules(rest: str, default: str) -> None:
    profile = f'{{ "defaultAction": "{default}"{rest} }}'
    after = allowed(profile)
    if default == "SCMP_ACT_ALLOW":
        assert after == profile
    else:
        rule = {"names": list(CALLS), "action": "SCMP_ACT_ALLOW"}
        assert json.loads(after) == {"defaultAction": default, "syscalls": [rule]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("[]", "it is no JSON object"),
        ("{}", "it has no defaultAction"),
        ('{"defaultAction": "allow"}', "it has no defaultAction"),
        ('{"defaultAction": 1}', "it has no defaultAction"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}', "its syscalls are no list"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [7]}', "rule 1 of its syscalls has no action"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": []}]}', "rule 1 of its syscalls has no action"),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_KILL", "names": [1]}]}',
            "rule 1 of its syscalls are no list of strings",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_KILL", "names": "read"}]}',
            "rule 1 of its syscalls are no list of strings",
        ),
        (
            '{"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"action": "SCMP_ACT_KILL", "name": "a", "names": ["b"]}]}',
            "both a name and names",
        ),
    ],
)
def test_what_is_no_profile(text: str, why: str) -> None:
    with pytest.raises(NotAProfileError, match=why):
        allow_io_uring(text)


# The command


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python(["-m", "uringloop", "seccomp", *arguments])


def test_from_file_to_file(tmp_path: Path) -> None:
    profile, out = tmp_path / "profile.json", tmp_path / "out.json"
    profile.write_text(DOCKER)
    finished = command(str(profile), "-o", str(out))
    assert (finished.returncode, finished.stdout) == (0, "")
    assert finished.stderr.startswith("A new rule allows io_uring_setup, io_uring_enter, io_uring_register.\n")
    assert "containerd ignores it" in finished.stderr
    assert out.read_text() == allowed(DOCKER)
    assert profile.read_text() == DOCKER

    finished = command(str(out), "--output", str(out))
    assert finished.stderr.startswith("The profile allows io_uring_setup, io_uring_enter, io_uring_register, eventfd2")
    assert out.read_text() == allowed(DOCKER)


@pytest.mark.parametrize("arguments", [["-"], ["-", "-o", "-"]])
def test_from_standard_input_to_standard_output(arguments: list[str]) -> None:
    """Byte by byte: line ends too, and characters outside the locale's."""
    profile = OCI.replace("{", "{\r\n", 1).replace("read", "r\u00e9ad").encode()
    finished = subprocess.run(
        [sys.executable, "-m", "uringloop", "seccomp", *arguments],
        input=profile,
        capture_output=True,
        cwd=ROOT,
        env=environment(LC_ALL="POSIX"),
        check=True,
        timeout=60,
    )
    assert finished.stdout == allowed(profile.decode()).encode()
    assert finished.stderr.count(b"\n") == 1


def test_what_the_command_refuses(tmp_path: Path) -> None:
    broken, profile = tmp_path / "broken.json", tmp_path / "profile.json"
    broken.write_bytes(b"\xff")
    profile.write_text(OCI)
    for arguments, why in [
        ([str(tmp_path / "none.json")], "none.json: No such file or directory"),
        ([str(broken)], "broken.json is no seccomp profile of a container runtime: 'utf-8' codec"),
        ([str(ROOT / "README.md")], "README.md is no seccomp profile of a container runtime: it is no JSON"),
        ([str(profile), "-o", str(tmp_path)], f"cannot write {tmp_path}: Is a directory"),
    ]:
        finished = command(*arguments)
        assert (finished.returncode, finished.stdout) == (2, "")
        assert finished.stderr.startswith("usage: python -m uringloop seccomp")
        assert why in finished.stderr
