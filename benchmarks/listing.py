"""Instructions for each multiply-add in the inner loops, from the listing: ``python -m benchmarks.listing OBJECT``.

OBJECT is a compiled table of kernels, such as ``build/CMakeFiles/linnet_kernels.dir/cpp/kernels/table_neon.cpp.o`` of
an ARM cross-build: what a core without this instruction set can tell about it. For each function the loop with most
multiply-adds is taken (between a backward branch and its target). "Lanes" are float multiply-adds; an inner loop at its
best has little else than multiply-adds and the loads that feed them, and "spills", moves between registers and the
stack, are none.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass

from benchmarks.report import table

LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
# Lanes of a multiply-add by the register its first operand names.
LANES = {"zmm": 16, "ymm": 8, "xmm": 4, ".4s": 4, ".2s": 2}
TOOLS = {"AArch64": "aarch64-linux-gnu-", "Advanced Micro Devices X86-64": ""}


@dataclass(frozen=True)
class Instruction:
    address: int
    name: str
    operands: str

    @property
    def lanes(self) -> int:
        """Multiply-adds that it does."""
        if not re.match(r"fml[as]$|vfn?m(add|sub)[0-9]+ps$", self.name):
            return 0
        return next((lanes for register, lanes in LANES.items() if register in self.operands), 0)

    @property
    def loads(self) -> bool:
        return self.name.startswith("ld") or ("(%" in self.operands and not self.operands.endswith(")"))

    @property
    def spills(self) -> bool:
        return bool(re.search(r"\[sp|\(%r[sb]p", self.operands)) and bool(re.search(r"[xyz]mm|\bq[0-9]", self.operands))


def functions(text: str) -> dict[str, list[Instruction]]:
    """The listing of ``objdump -d``, by function."""
    found: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in text.splitlines():
        if head := re.match(r"^[0-9a-f]+ <(.*)>:$", line):
            current = found.setdefault(head[1], [])
        elif (match := LINE.match(line)) and current is not None:
            current.append(Instruction(int(match[1], 16), match[2], match[3]))
    return found


def inner_loop(code: list[Instruction]) -> list[Instruction]:
    """The loop with the densest multiply-adds; empty when there is none."""
    best: list[Instruction] = []
    for i, branch in enumerate(code):
        target = re.match(r"(?:.*,\s*)?([0-9a-f]+) <", branch.operands)
        if not target or not re.match(r"b\.|b$|cb|tb|j", branch.name) or int(target[1], 16) >= branch.address:
            continue
        body = [x for x in code[: i + 1] if x.address >= int(target[1], 16)]
        if any(re.match(r"b\.|b$|cb|tb|j", x.name) for x in body[:-1]):
            continue  # not innermost
        if sum(x.lanes for x in body) > sum(x.lanes for x in best):
            best = body
    return best


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.listing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("object", help="an object file (an ARM one needs aarch64-linux-gnu-objdump)")
    parser.add_argument("--only", default=r"\btile<|dw_|winograd", help="functions to show (regular expression)")
    args = parser.parse_args(argv)
    header = subprocess.run(["readelf", "-h", args.object], capture_output=True, text=True, check=True).stdout
    prefix = next((p for machine, p in TOOLS.items() if machine in header), "")
    command = [prefix + "objdump", "-d", "-C", "--no-show-raw-insn", args.object]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = []
    for name, code in functions(listing).items():
        loop = inner_loop(code) if re.search(args.only, name) else []
        lanes, adds = sum(x.lanes for x in loop), sum(x.lanes > 0 for x in loop)
        if lanes:
            short = re.sub(r"\(.*|.*::(?=\w+[<(])", "", name).removeprefix("void ").split("::")[-1]
            rest = len(loop) - adds
            rows.append(
                [short, len(loop), adds, sum(x.loads for x in loop), sum(x.spills for x in loop), lanes, rest / adds]
            )
    rows.sort(key=lambda row: -row[5])
    head = ["function", "instructions", "multiply-adds", "loads", "spills", "lanes", "others per multiply-add"]
    print(table(head, [[*map(str, row[:-1]), f"{row[-1]:.2f}"] for row in rows], False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
