"""`python -m uringloop seccomp`: a container runtime's seccomp profile, with io_uring allowed.

A profile is the JSON that Docker, Podman, containerd and Kubernetes read: the OCI's, or Docker's superset of it.  It is
edited as text, so its order, its layout and its unknown members stay.  A diff shows the new rights and nothing else.
"""

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: The system calls of a loop on io_uring that a profile may lack.  Its descriptor for add_reader comes from eventfd2.
CALLS = ("io_uring_setup", "io_uring_enter", "io_uring_register", "eventfd2")

_ALLOW = "SCMP_ACT_ALLOW"
#: A logged call runs too.
_PERMITTING = (_ALLOW, "SCMP_ACT_LOG")
#: Docker's own, which are not in the OCI's specification.
_CONTAINER_CONDITIONS = ("includes", "excludes")
_CONDITIONS = ("args", *_CONTAINER_CONDITIONS)
_STANDARD_STREAM = "-"
_FOR_DOCKER = """\
Some rules depend on the container (includes, excludes).  Docker, Podman and CRI-O evaluate that.  containerd ignores it
in a pod's localhostProfile, so such a profile allows more there; docs/containers.md has the way."""
_decoder = json.JSONDecoder()
_space = re.compile(r"[ \t\r\n]*")


class NotAProfileError(ValueError):
    """A text is no seccomp profile of a container runtime."""


@dataclasses.dataclass(frozen=True)
class _Rule:
    """An entry of a profile's `syscalls`.

    Attributes:
        place: the entry within the text.
        names: the system calls that it names.
        name_places: these names within the text; empty in the old form, which has one name and no list.
        conditional: whether the rule depends on arguments, capabilities, the machine or the kernel.
    """

    place: slice
    names: list[str]
    name_places: list[slice]
    action: str
    conditional: bool


def allow_io_uring(profile: str) -> tuple[str, list[str]]:
    """Return a profile with the system calls of `CALLS` allowed, and a sentence for each change.

    A rule that refuses one of them no longer names it.  A new rule, the last one, allows the calls that no rule allows
    without a condition.  A profile that allows all of them comes back as it is, with no sentence.

    Args:
        profile: the JSON text.

    Raises:
        NotAProfileError: the text is no such profile.
    """
    document = _parse(profile)
    places, rules = _read_rules(profile, document)
    edits: list[tuple[slice, str]] = []
    changes = []
    emptied = set()
    for index, rule in enumerate(rules):
        refused = {at for at, name in enumerate(rule.names) if name in CALLS and rule.action not in _PERMITTING}
        if refused:
            names = ", ".join(rule.names[at] for at in sorted(refused))
            changes.append(f"Rule {index + 1} ({rule.action}) no longer names {names}.")
            if len(refused) == len(rule.names):
                emptied.add(index)
            else:
                edits += [(cut, "") for cut in _cuts(rule.name_places, refused)]
    edits += [(cut, "") for cut in _cuts(places, emptied)]
    missing = _missing(document["defaultAction"], rules)
    if missing:
        changes.append(f"A new rule allows {', '.join(missing)}.")
        edits.append(_addition(profile, places, missing, len(emptied) == len(rules)))
    for place, replacement in sorted(edits, key=lambda edit: edit[0].start, reverse=True):
        profile = profile[: place.start] + replacement + profile[place.stop :]
    return profile, changes


def has_conditions(profile: str) -> bool:
    """Return whether rules of a profile depend on the container: on its capabilities, its machine, its kernel."""
    rules = json.loads(profile).get("syscalls") or []
    return any(rule.get(condition) for rule in rules for condition in _CONTAINER_CONDITIONS)


def _missing(default_action: str, rules: list[_Rule]) -> list[str]:
    if default_action in _PERMITTING:
        return []
    allowed = {name for rule in rules if rule.action in _PERMITTING and not rule.conditional for name in rule.names}
    return [name for name in CALLS if name not in allowed]


def _parse(profile: str) -> dict[str, Any]:
    try:
        document = json.loads(profile)
    except (ValueError, RecursionError) as error:
        raise NotAProfileError(f"it is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise NotAProfileError("it is no JSON object")
    if not _is_action(document.get("defaultAction")):
        raise NotAProfileError("it has no defaultAction, such as SCMP_ACT_ERRNO")
    if not isinstance(document.get("syscalls"), list | None):
        raise NotAProfileError("its syscalls are no list")
    return document


def _is_action(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("SCMP_ACT_")


def _read_rules(profile: str, document: dict[str, Any]) -> tuple[list[slice], list[_Rule]]:
    """Return the places of the rules within the text, and the rules."""
    entries = document.get("syscalls") or []
    places = _items(profile, _members(profile, _skip_space(profile, 0))["syscalls"].start) if entries else []
    return places, [
        _read_rule(profile, number, place, entry)
        for number, (place, entry) in enumerate(zip(places, entries, strict=True), start=1)
    ]


def _read_rule(profile: str, number: int, place: slice, entry: Any) -> _Rule:
    if not isinstance(entry, dict) or not _is_action(entry.get("action")):
        raise NotAProfileError(f"rule {number} of its syscalls has no action, such as {_ALLOW}")
    name, names = entry.get("name"), entry.get("names")
    listed = [] if names is None else names
    if name:
        if listed:
            raise NotAProfileError(f"rule {number} of its syscalls has both a name and names")
        listed = [name]
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise NotAProfileError(f"the names in rule {number} of its syscalls are no list of strings")
    return _Rule(
        place=place,
        names=listed,
        name_places=[] if names is None or name else _items(profile, _members(profile, place.start)["names"].start),
        action=entry["action"],
        conditional=any(entry.get(condition) for condition in _CONDITIONS),
    )


def _skip_space(text: str, at: int) -> int:
    matched = _space.match(text, at)
    assert matched is not None
    return matched.end()


def _elements(text: str, at: int, closing: str) -> Iterator[tuple[int, int]]:
    """Yield where each key or item of the array or object at `at` starts and ends; the text is valid JSON."""
    at = _skip_space(text, at + 1)
    while text[at] != closing:
        _, end = _decoder.raw_decode(text, at)
        yield at, end
        at = _skip_space(text, end)
        if text[at] in ",:":
            at = _skip_space(text, at + 1)


def _items(text: str, at: int) -> list[slice]:
    """Return the places of the items of the array at `at`."""
    return [slice(*element) for element in _elements(text, at, "]")]


def _members(text: str, at: int) -> dict[str, slice]:
    """Return the places of the values of the object at `at`; the last of two equal keys counts, as for json."""
    elements = [slice(*element) for element in _elements(text, at, "}")]
    return {json.loads(text[key]): value for key, value in zip(elements[::2], elements[1::2], strict=True)}


def _cuts(items: list[slice], unwanted: set[int]) -> list[slice]:
    """Return the pieces of text to cut so that an array loses items, each with one comma."""
    left = len(items)
    while left - 1 in unwanted:
        left -= 1
    cuts = [slice(items[index].start, items[index + 1].start) for index in unwanted if index < left]
    if left < len(items):
        cuts.append(slice(items[left - 1].stop if left else items[0].start, items[-1].stop))
    return cuts


def _addition(profile: str, places: list[slice], names: list[str], alone: bool) -> tuple[slice, str]:
    """Return the edit that adds a rule for these names, in the layout of the rule before it.

    Args:
        places: the places of the rules.
        alone: whether no rule is left before it.
    """
    rule = {"names": names, "action": _ALLOW}
    if places:
        last = places[-1]
        gap = _space_before(profile, last.start)
        end = slice(last.stop, last.stop)
        return end, ("" if alone else f",{gap}") + _write(rule, profile, last, gap)
    top = _members(profile, _skip_space(profile, 0))
    if "syscalls" in top:
        return top["syscalls"], json.dumps([rule])
    last = list(top.values())[-1]
    gap = _space_before(profile, profile.index('"'))
    return slice(last.stop, last.stop), f',{gap}"syscalls": {json.dumps([rule])}'


def _space_before(text: str, at: int) -> str:
    return text[len(text[:at].rstrip(" \t\r\n")) : at]


def _write(rule: dict[str, Any], profile: str, model: slice, gap: str) -> str:
    """Return a rule as JSON, laid out as the one at `model` is."""
    inner = profile[model.start + 1 : _skip_space(profile, model.start + 1)]
    if "\n" in gap and inner.startswith(gap):
        return json.dumps(rule, indent=inner.removeprefix(gap)).replace("\n", gap)
    return json.dumps(rule, separators=None if gap else (",", ":"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("profile", metavar="PROFILE.json", help="the runtime's profile; - is standard input")
    parser.add_argument(
        "-o", "--output", metavar="OUT", default=_STANDARD_STREAM, help="the file to write; standard output otherwise"
    )


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Run the command; return the exit code.  Say on standard error how the profile changed.

    Args:
        parser: reports what is wrong, and then ends the process with 2.
        options: the parsed arguments.
    """
    name = options.profile
    try:
        content = sys.stdin.buffer.read() if name == _STANDARD_STREAM else Path(name).read_bytes()
        changed, changes = allow_io_uring(content.decode())
    except OSError as error:
        parser.error(f"cannot read {name}: {error.strerror}")
    except ValueError as error:
        parser.error(f"{name} is no seccomp profile of a container runtime: {error}")
    try:
        if options.output == _STANDARD_STREAM:
            sys.stdout.buffer.write(changed.encode())
            sys.stdout.buffer.flush()
        else:
            Path(options.output).write_bytes(changed.encode())
    except OSError as error:
        parser.error(f"cannot write {options.output}: {error.strerror}")
    print("\n".join(changes) or f"The profile allows {', '.join(CALLS)} already.", file=sys.stderr)
    if has_conditions(changed):
        print(_FOR_DOCKER, file=sys.stderr)
    return 0
