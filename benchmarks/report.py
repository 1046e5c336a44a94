"""The report of a run: one page that needs nothing else, the main plot, and the table of what was to be reached.

python -m benchmarks.report benchmarks/.results/results.json --folder benchmarks/.results
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks import plots, results, targets

#: The cases of the main plot.
MAIN = (
    targets.PROTOCOL_64,
    targets.PROTOCOL_1000,
    targets.PING_PONG,
    targets.STREAMS_64,
    targets.SOCK_64,
    targets.UNIX_64,
    targets.UDP_32,
    targets.TLS_64,
    targets.ACCEPT,
    targets.UVICORN,
)
STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 64em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: .5em 0 1.5em; font-size: 13px }
td, th { padding: .15em .8em; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left }
svg { max-width: 100%; height: auto }
"""
Record = Mapping[str, Any]


def write(path: Path, folder: Path) -> None:
    """From a record: `report.html`, `speed.md`, and `speed.svg` where matplotlib is installed."""
    records = results.read(path)
    found = {result["case"]: result for record in records for result in record["results"]}
    main_plot = plots.svg([found[case] for case in MAIN if case in found], "Rates, 1 KiB messages")
    (folder / "report.html").write_text("\n".join(page(records, found, main_plot)) + "\n")
    (folder / "speed.md").write_text(targets.markdown(found))
    if main_plot:
        (folder / "speed.svg").write_text(main_plot)


def page(records: Sequence[Record], found: Mapping[str, Record], main_plot: str) -> Iterator[str]:
    yield f"<!doctype html><meta charset='utf-8'><title>uringloop: benchmarks</title><style>{STYLE}</style>"
    yield "<h1>uringloop: benchmarks</h1>"
    yield from circumstances(records)
    yield main_plot
    yield "<h2>What was to be reached</h2>"
    yield "<p>Medians of ratios of rates, each within its round; the lowest and the highest round; what was wanted.</p>"
    yield html_table(list(targets.rows(found)))
    for name in dict.fromkeys(record["benchmark"] for record in records):
        same = [record for record in records if record["benchmark"] == name]
        yield f"<h2>{escape(name)}</h2>"
        for record in same:
            yield f"<p><code>{escape(record.get('command', ''))}</code> {escape(record.get('left_out', ''))}</p>"
        outcomes = [result for record in same for result in record["results"]]
        yield plots.svg(outcomes, name)
        for result in outcomes:
            yield f"<h3>{escape(result['case'])}</h3>" + html_table(list(rows(result)))


def circumstances(records: Sequence[Record]) -> Iterator[str]:
    measured = [record for record in records if "machine" in record]
    if not measured:
        return
    first = measured[0]
    facts = {
        "time": f"{first.get('time', '')} to {measured[-1].get('time', '')}",
        **first["machine"],
        **first["versions"],
        "not installed": ", ".join(first["missing"]) or "none of the contenders",
    }
    yield html_table([["", ""], *([name, str(value)] for name, value in facts.items())])
    yield (
        "<p>One process a contender, server and load on a CPU each, contenders in turns within each round, ratios "
        "within a round. What came back was compared; who lost or changed a byte, or did not answer, is disqualified. "
        "Where the load generator was busy for more than 95 % of the time (*), it bounds the rate.</p>"
    )


def rows(result: Record) -> Iterator[list[str]]:
    """A case as a table."""
    figures = results.figure_names(result)
    yield [
        "",
        result["unit"],
        "ratio (lowest to highest)",
        "to the best other loop",
        *figures.values(),
    ]
    for contender, row in result["contenders"].items():
        if "disqualified" in row:
            yield [contender, "disqualified: " + row["disqualified"]]
            continue
        value = f"{row['value']:,.0f}" if row["value"] >= 100 else f"{row['value']:.3g}"
        busy = "*" if row.get("load_busy", 0) > results.SATURATED else ""
        ratios = [_spread(row.get(key)) for key in ("against_reference", "against_best")]
        yield [contender, value + busy, *ratios, *(f"{row[name]:.1f}" if name in row else "" for name in figures)]


def _spread(ratio: Mapping[str, float] | None) -> str:
    return "{median:.2f} ({low:.2f} to {high:.2f})".format(**ratio) if ratio else ""


def html_table(table: Sequence[Sequence[str]]) -> str:
    heading, *body = table
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in heading)]
    for row in body:
        wide = f" colspan='{len(heading) - len(row) + 1}'" if len(row) < len(heading) else ""
        *first, last = row
        lines.append("".join(f"<td>{escape(cell)}</td>" for cell in first) + f"<td{wide}>{escape(last)}</td>")
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The report of a run.")
    parser.add_argument("results", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        parser.error(f"no such folder: {options.folder}")
    write(options.results, options.folder)


if __name__ == "__main__":
    main()
