"""What the commands that compress a model share: their options, and how they show what came out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnet import _measure
from linnet._cli import _common, _text
from linnet._cli._common import UsageError
from linnet.compress._report import Report, Table

if TYPE_CHECKING:
    from linnet.compress import Result


def add_parser(commands: Any, name: str, help: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """A subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return parser


def add_result_arguments(parser: argparse.ArgumentParser, suffix: str) -> None:
    """The output, the report, the timing, --json and --debug."""
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=f"the result (default: MODEL_{suffix}.onnx)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="a page with tables and pictures (.html or .json)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads that are timed (default: 1)")
    parser.add_argument("--no-measure", action="store_true", help="do not measure latency and memory")
    _common.add_output_arguments(parser)


def add_data_arguments(parser: argparse.ArgumentParser, use: str) -> None:
    """The user's samples and how a model is judged by them."""
    group = parser.add_argument_group("data")
    group.add_argument("--data", metavar="FILE_OR_DIR", help=f"samples, .npz, .npy or a folder of them: {use}")
    group.add_argument("--labels", metavar="FILE", help="of the data, .npy or .npz: the metric is the accuracy (top 1)")
    group.add_argument(
        "--metric",
        choices=["accuracy", "agreement", "sqnr"],
        help="accuracy (with --labels), agreement with the model's own top 1, or SQNR of the outputs in dB",
    )


def add_choice_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """--layer and --exclude."""
    for option, text in (("--layer", f"{what} only these"), ("--exclude", "leave these alone")):
        parser.add_argument(
            option,
            action="append",
            metavar="PATTERN",
            help=f"{text}: names of nodes or weights, or kinds such as 'Conv 1x1' and Gemm; * matches anything; may be "
            "given several times",
        )


def output_of(args: argparse.Namespace, model: str, suffix: str) -> Path:
    """Where the result goes; UsageError when that is the model itself."""
    source = Path(model)
    output: Path = args.output or source.with_name(f"{source.stem}_{suffix}.onnx")
    if output.exists() and source.exists() and output.samefile(source):
        raise UsageError(f"{output} is the model itself; choose another --output")
    if args.report and args.no_measure:
        raise UsageError("--report shows what is measured: leave --no-measure out")
    return output


def show(args: argparse.Namespace, model: str, output: Path, result: Result) -> int:
    """Measures, unless that is not wanted, writes the report and prints what came out; gives the exit code."""
    report: Report | None = None
    if not args.no_measure:
        report = result.report(threads=args.threads, say=lambda text: _text.progress(f"{text} ..."))
        if args.report:
            report.save(args.report)
    _text.progress("")
    if args.json:
        _text.print_json(
            {
                "model": model,
                "output": str(output),
                "title": result.title,
                "settings": result.settings,
                "figures": result.figures,
                "kept": result.kept,
                "notes": result.notes,
                "report": report.to_dict() if report else None,
            }
        )
        return 0
    print(f"{output}\n  {result.title}")
    for note in result.notes:
        print(f"  {note}")
    if report:
        print("\n" + _text.table(["", "before", "after", ""], _compared(report)))
    for section in result.sections:
        for part in section.parts:
            if isinstance(part, Table):
                print(f"\n{section.title}")
                print(_rows(part))
    if args.report:
        print(f"\nTables and pictures:  {args.report}")
    return 0


def _compared(report: Report) -> list[list[str]]:
    a, b = report.before, report.after

    def row(name: str, before: float, after: float, shown: Any) -> list[str]:
        return [name, shown(before), shown(after), f"{before / after:.2f}×" if after else ""]

    rows = [row("file", a.file_bytes, b.file_bytes, _measure.size)]
    if a.latency and b.latency:
        rows.append(row("one run", a.latency["p50"], b.latency["p50"], _measure.duration))
    if a.memory_bytes and b.memory_bytes:
        rows.append(row("memory", a.memory_bytes, b.memory_bytes, _measure.size))
    if a.metric is not None and b.metric is not None:
        rows.append([report.metric_name, f"{a.metric:.4g}", f"{b.metric:.4g}", f"{b.metric - a.metric:+.4g}"])
    return rows


def _rows(table: Table, most: int = 16) -> str:
    rows = [[_text.shorten(cell, 60) for cell in row] for row in table.rows[:most]]
    left = [0, *(i for i in range(1, len(table.head)) if any(row[i][:1].isalpha() for row in rows))]
    text = _text.table(list(table.head), rows, left=left)
    return text + (f"\n  ... and {len(table.rows) - most} more (--report has them)" if len(table.rows) > most else "")
