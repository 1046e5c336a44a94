"""What has changed between two runs?

    python -m benchmarks.compare before.json after.json

Records of one benchmark or of all of them.  The machine may have been another one, or have had other work: so what is
compared is not the rate, but the rate as a ratio to the reference loop's in the same round.  `better` and `worse` are
said where the spreads of the two ratios do not meet.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import contenders, results


def ratios(path: Path, loop: str) -> dict[tuple[str, str], Mapping[str, float]]:
    """By benchmark and case, where there are any."""
    return {
        (record["benchmark"], result["case"]): against
        for record in results.read(path)
        for result in record["results"]
        if (against := result["contenders"].get(loop, {}).get("against_reference"))
    }


def verdict(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    if after["low"] > before["high"]:
        return "better"
    return "worse" if after["high"] < before["low"] else ""


def lines(before: Path, after: Path, loop: str) -> Iterator[str]:
    old, new = ratios(before, loop), ratios(after, loop)
    both = [key for key in new if key in old]
    width = max((len(": ".join(key)) for key in both), default=0)
    yield f"{loop}, its ratio to the reference, median (lowest to highest round)"
    for key in both:
        texts = ["{median:5.2f} ({low:.2f} to {high:.2f})".format(**each[key]) for each in (old, new)]
        change = f"x{new[key]['median'] / old[key]['median']:.2f}"
        columns = (
            f"{': '.join(key):{width}}",
            f"{texts[0]:>22}",
            f"{texts[1]:>22}",
            change,
            verdict(old[key], new[key]),
        )
        yield "  ".join(columns).rstrip()
    for path, keys in ((before, old.keys() - new.keys()), (after, new.keys() - old.keys())):
        if keys:
            yield f"only in {path}: {', '.join(sorted(': '.join(key) for key in keys))}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What has changed between two runs?")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--loop", default=contenders.OURS)
    options = parser.parse_args(arguments)
    try:
        compared = list(lines(options.before, options.after, options.loop))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(*compared, sep="\n")


if __name__ == "__main__":
    main()
