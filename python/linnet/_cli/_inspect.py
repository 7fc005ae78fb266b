"""``linnet inspect``: what a model holds, and what Linnet makes of it."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path
from typing import Any

from linnet import _core, _measure
from linnet._cli import _common, _text
from linnet._session import InferenceSession

_EPILOG = """\
examples:
  linnet inspect model.onnx
  linnet inspect model.onnx --shape image=8,3,224,224    the plan for eight pictures
  linnet inspect model.onnx --dump lower                 the graph that runs, one node a line
  linnet inspect model.onnx --json

Stages: "build" is the file's graph, "simplify" the same meaning in fewer nodes (still ONNX), "lower" what runs on this
machine: channels-last, with biases, activations and residuals fused into the operators in front of them.
"""

STAGES = ("build", "simplify", "lower")
_INTEGER = re.compile(r"QLinear|ByteTable|ConvInteger|MatMulInteger")  # lowered operators that compute in integers


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "inspect",
        help="inputs, operators, parameters, memory, what was fused, algorithms",
        description="Show what a model holds, and what Linnet makes of it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _common.add_model_arguments(parser)
    parser.add_argument("--dump", choices=STAGES, help="print the graph after this stage instead")
    parser.set_defaults(function=inspect)


def inspect(args: argparse.Namespace) -> int:
    """Does it."""
    session = _common.open_model(args.model)
    if args.dump:
        text = session.dump(args.dump)
        if args.json:
            _text.print_json({"model": args.model, "stage": args.dump, "graph": text})
        else:
            print(text, end="")
        return 0
    facts = collect(session, args.model, _common.resolve_shapes(session, args.shape))
    if args.json:
        _text.print_json(facts)
    else:
        _print(facts)
    return 0


def collect(session: InferenceSession, path: str, shapes: _common.Shapes) -> dict[str, Any]:
    """All that the command shows."""
    built = _core.describe(session._core, "build", shapes.by_input)
    simplified = _core.describe(session._core, "simplify", shapes.by_input)
    plan = _core.plan(session._core, shapes.by_input)
    info = session._core.info()
    steps = [node for node in plan["nodes"] if "/" not in node["op"]]
    return {
        "model": path,
        "file_bytes": Path(path).stat().st_size,
        "producer": " ".join(t for t in (info["producer_name"], info["producer_version"]) if t),
        "graph_name": info["graph_name"],
        "description": info["description"],
        "ir_version": info["ir_version"],
        "opsets": {domain or "ai.onnx": version for domain, version in info["opsets"]},
        "metadata": info["metadata"],
        "inputs": [{"name": a.name, "type": a.type, "shape": a.shape} for a in session.get_inputs()],
        "outputs": [{"name": a.name, "type": a.type, "shape": a.shape} for a in session.get_outputs()],
        "shapes": shapes.by_input,
        "assumed_free_dimensions": shapes.assumed,
        "parameters": built["constant_elements"],
        "parameter_bytes": built["constant_bytes"],
        "macs": sum(n["macs"] for n in steps),
        "subgraphs": len(steps) < len(plan["nodes"]),
        "nodes": {"build": len(built["nodes"]), "simplify": len(simplified["nodes"]), "lower": len(plan["nodes"])},
        "operators": {"build": _histogram(built), "simplify": _histogram(simplified), "lower": _histogram(plan)},
        "fused": _fused(steps),
        "algorithms": dict(Counter(f"{n['op']}: {n['algorithm']}" for n in steps if n["algorithm"]).most_common()),
        "steps": [{key: n[key] for key in ("name", "op", "algorithm", "macs", "outputs")} for n in steps],
        "layout_changes": plan["layout_changes"],
        "integer_steps": sum(bool(_INTEGER.match(n["op"])) for n in steps),
        "float_nodes": plan["float_nodes"],
        "plan": {
            "steps": sum(n["step"] != "view" for n in steps),
            "views": sum(n["step"] == "view" for n in steps),
            "arena_bytes": plan["arena_bytes"],
            "unshared_bytes": plan["unshared_bytes"],
            "weight_bytes": plan["constant_bytes"],
            "dynamic": [{"name": n["name"], "op": n["op"]} for n in steps if n["step"] == "dynamic"],
        },
    }


def _histogram(graph: dict[str, Any]) -> dict[str, int]:
    return dict(Counter(node["op"].rsplit("/", 1)[-1] for node in graph["nodes"]).most_common())


def _fused(steps: list[dict[str, Any]]) -> dict[str, int]:
    """``{"Conv + bias + relu": 16}``: operators with what is applied to their results before they are stored."""
    found: Counter[str] = Counter()
    for node in steps:
        if node["epilogue"]:
            parts = [re.split("[:]", text)[0] for text in node["epilogue"]]
            found[" + ".join([node["op"], *parts])] += 1
    return dict(found.most_common())


def _print(facts: dict[str, Any]) -> None:
    opsets = ", ".join(f"{domain} {version}" for domain, version in facts["opsets"].items())
    print(f"{facts['model']}  ({_measure.size(facts['file_bytes'])})")
    about = [t for t in (facts["producer"], facts["graph_name"]) if t]
    print(f"  opsets {opsets}; IR version {facts['ir_version']}{'; ' + ', '.join(about) if about else ''}")
    if facts["description"]:
        print(f"  {_text.shorten(' '.join(facts['description'].split()), 110)}")
    for key, value in facts["metadata"].items():
        print(f"  {key}: {_text.shorten(' '.join(value.split()), 90)}")
    for what in ("inputs", "outputs"):
        print(f"\n{what.capitalize()}")
        rows = [[a["name"], a["type"], _common.shape_text(a["shape"])] for a in facts[what]]
        print(_text.table(["name", "type", "shape"], rows, left=(0, 1, 2)))
    print(f"\nParameters  {_text.count(facts['parameters'])} in {_measure.size(facts['parameter_bytes'])}")
    more = ", and what subgraphs do, which depends on the run" if facts["subgraphs"] else ""
    print(f"Work        {_text.count(facts['macs'])} multiply-adds a run{more}")
    plan = facts["plan"]
    if facts["assumed_free_dimensions"]:
        print(f"            free dimensions taken as 1: {', '.join(facts['assumed_free_dimensions'])}")
    print(
        f"Memory      {_measure.size(plan['arena_bytes'])} for intermediate values "
        f"({_measure.size(plan['unshared_bytes'])} without sharing), {_measure.size(plan['weight_bytes'])} of weights"
    )
    print(f"Layout      {_many(facts['layout_changes'], 'Transpose')} left that move data")
    nodes = facts["nodes"]
    print(
        f"Nodes       {nodes['build']} in the file, {nodes['simplify']} simplified, {nodes['lower']} lowered: "
        f"{_many(plan['steps'], 'step')} and {_many(plan['views'], 'view')}"
    )
    print("\nOperators, by stage")
    stages = facts["operators"]
    names = sorted(
        {op for stage in stages.values() for op in stage},
        key=lambda op: (-max(s.get(op, 0) for s in stages.values()), op),
    )
    rows = [[op, *(str(stages[stage].get(op, "")) for stage in STAGES)] for op in names]
    print(_text.table(["", "file", "simplified", "lowered"], rows))
    for title in ("fused", "algorithms"):
        if facts[title]:
            print(f"\n{title.capitalize()}")
            for text, n in facts[title].items():
                print(f"  {n:4d} × {text}")
    if facts["integer_steps"] or facts["float_nodes"]:
        floats = facts["float_nodes"]
        print(f"\nQuantized   {_many(facts['integer_steps'], 'step')} in integers, {_many(len(floats), 'node')} in float")
        if floats:
            rows = [[n["op"], _text.shorten(n["name"], 40), n["why"]] for n in floats[:40]]
            print(_text.table(["stays float", "name", "why"], rows, left=(0, 1, 2)))
        if len(floats) > 40:
            print(f"  … and {len(floats) - 40} more")
    if plan["dynamic"]:
        print("\nShapes known only when they run (allocated then, not planned)")
        for node in plan["dynamic"][:40]:
            print(f"  {node['op']}  {node['name']}")
        if len(plan["dynamic"]) > 40:
            print(f"  … and {len(plan['dynamic']) - 40} more")


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
