"""Two builds of Linnet on the same machine: ``python -m benchmarks.compare OLD NEW [models...]``.

OLD and NEW are checkouts with a developer's build, or folders with an installed ``linnet`` (such as site-packages).
For each model each build gets a process of its own; the two run short bursts in turns, several pairs of processes after
each other, since where memory comes to lie is luck that stays with a process. The ratio is NEW's time over OLD's, the
median over all turns with its 95 % interval. Exit code 1: some model is slower beyond the bound, with all of its
interval, or its outputs differ.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BURST = 0.06
TOLERANCE = 1e-4


def package_folder(build: Path) -> Path:
    """The folder to import ``linnet`` from. Raises FileNotFoundError where there is none."""
    for folder in (build / "python", build):
        if (folder / "linnet" / "__init__.py").exists():
            return folder
    raise FileNotFoundError(f"{build}: neither python/linnet nor linnet is in it")


def serve(model: str, inputs: str, outputs: str, threads: str) -> None:
    """The child's part: open, run once, then for each line of stdin, a number of seconds, a line of run times."""
    import linnet

    with np.load(inputs) as file:
        feeds = dict(file)
    options = linnet.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = linnet.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    results = session.run(None, feeds)
    np.savez(outputs, **{f"y{i}": np.asarray(y) for i, y in enumerate(results)})
    print("ready", flush=True)
    for line in sys.stdin:
        end, times = time.perf_counter() + float(line), []
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            session.run(None, feeds)
            times.append(time.perf_counter() - start)
        print(json.dumps(times), flush=True)


class Child:
    """One build with one model in a process of its own."""

    def __init__(self, folder: Path, model: Path, work: Path, name: str, threads: int) -> None:
        self.outputs, self.errors = work / f"{name}.npz", work / f"{name}.txt"
        code = "import sys; from benchmarks.compare import serve; serve(*sys.argv[1:])"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, str(model), str(work / "feeds.npz"), str(self.outputs), str(threads)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder.resolve())])},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def answer(self) -> str:
        """The next line, the first when the model has run once. Raises RuntimeError when the process has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.errors.read_text().strip()[-1500:] or f"ended with {self.process.wait()}")
        return line

    def burst(self) -> float:
        """The median of the runs of one turn."""
        assert self.process.stdin is not None
        print(BURST, file=self.process.stdin, flush=True)
        return float(np.median(json.loads(self.answer())))

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def interval(values: list[float]) -> tuple[float, float, float]:
    """The median, and the interval that holds the true one with 95 % probability, whatever the distribution."""
    ordered, n = sorted(values), len(values)
    below, chance = 0, 0.5**n  # the chance that no more than `below` values lie under the true median
    while 2 * (chance + math.comb(n, below + 1) * 0.5**n) <= 0.05:
        below += 1
        chance += math.comb(n, below) * 0.5**n
    return float(np.median(ordered)), ordered[below], ordered[n - 1 - below]


def compare(
    folders: tuple[Path, Path], model: Path, feeds: dict[str, Any], threads: int, pairs: int, turns: int
) -> tuple[list[float], float]:
    """The ratios of all turns, and the largest difference of the outputs relative to the largest output."""
    from benchmarks.models import difference

    ratios = []
    gap = 0.0
    for _ in range(pairs):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            np.savez(work / "feeds.npz", **feeds)
            children: list[Child] = []
            try:
                for name, build in zip(("old", "new"), folders, strict=True):
                    children.append(Child(build, model, work, name, threads))
                    children[-1].answer()
                with np.load(children[0].outputs) as old, np.load(children[1].outputs) as new:
                    gap = max(gap, difference([new[k] for k in new], [old[k] for k in old]))
                for turn in range(turns + 1):
                    order = children if turn % 2 else children[::-1]
                    taken = {child: child.burst() for child in order}
                    if turn:  # the first one warms up
                        ratios.append(taken[children[1]] / taken[children[0]])
            finally:
                for child in children:
                    child.close()
    return ratios, gap


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, metavar="OLD", help="the build to compare with")
    parser.add_argument("new", type=Path, metavar="NEW", help="the build in question")
    parser.add_argument("names", nargs="*", metavar="model", help="zoo models or ONNX files (default: the whole zoo)")
    parser.add_argument("--threads", default="1", help="thread counts, such as 1,2 (default: 1)")
    parser.add_argument("--bound", type=float, default=0.03, help="how much slower is a regression (default: 0.03)")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of processes for each model (default: 3)")
    parser.add_argument("--turns", type=int, default=10, help="turns of each pair (default: 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all ratios to FILE")
    args = parser.parse_intermixed_args(argv)
    from benchmarks.models import counts, model_feeds, model_path
    from benchmarks.report import plural
    from benchmarks.zoo import ZOO, folder

    try:
        folders = (package_folder(args.old), package_folder(args.new))
        threads = counts(args.threads)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    models = args.names or [n for n in ZOO if model_path(n).exists()]
    if not models:
        parser.error(f"no models are in {folder()}: build the zoo with  python -m benchmarks.zoo")
    worse, rows = [], []
    for model, count in itertools.product(models, threads):
        ratios, gap = compare(folders, model_path(model).resolve(), model_feeds(model), count, args.pairs, args.turns)
        middle, low, high = interval(ratios)
        slower, wrong = low > 1 + args.bound, not gap <= TOLERANCE
        rows.append({"model": model, "threads": count, "ratios": ratios, "difference": gap})
        label = f"{Path(model).stem}, {plural(count, 'thread')}"
        verdict = "SLOWER" if slower else "faster" if high < 1 - args.bound else ""
        verdict += f" outputs differ by {gap:.1e}" if wrong else ""
        print(f"{label:<36} {middle:.3f}  [{low:.3f}, {high:.3f}]  {verdict}".rstrip(), flush=True)
        if slower or wrong:
            worse.append(label)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    middles = [float(np.median(r["ratios"])) for r in rows]
    print(f"{'geometric mean':<36} {float(np.exp(np.mean(np.log(middles)))):.3f}")
    if worse:
        print(f"Slower by more than {100 * args.bound:.0f} %, or wrong: {'; '.join(worse)}", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
