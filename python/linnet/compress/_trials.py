"""Trying many settings, and what each costs and saves."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import le
from types import ModuleType
from typing import Any

import onnx

from linnet import _errors, _measure
from linnet.compress import _layers, _select
from linnet.compress import _structure as patterns
from linnet.compress._data import Feeds
from linnet.compress._metric import Metric, UserMetric
from linnet.compress._pipeline import compress
from linnet.compress._prune import latency
from linnet.compress._report import Point, Points, Section, Table
from linnet.compress._result import Progress, Result, first_feeds, metric_of, opened, runner, samples_of, score, silent
from linnet.compress._sensitivity import sensitivity

FIRST: tuple[dict[str, Any], ...] = (
    {"sparsity": 0.0, "codes": 0, "mode": "static", "spared": 0.0},
    {"sparsity": 0.0, "codes": 256, "mode": "none", "spared": 0.0},
    {"sparsity": 0.0, "codes": 16, "mode": "none", "spared": 0.0},
    {"sparsity": 0.5, "codes": 0, "mode": "none", "spared": 0.25},
    {"sparsity": 0.5, "codes": 0, "mode": "static", "spared": 0.25},
)
"""Settings that are tried before the library chooses: each tool by itself."""

SCANNED, SCAN_SAMPLES = 0.7, 64
"""The sparsity at which layers are ranked by how much they mind, and on how many samples."""


@dataclass
class Trial:
    """One setting: what it was, what came out. ``failed`` says why nothing did."""

    settings: dict[str, Any]
    size: int = 0
    seconds: float = 0.0
    metric: float = 0.0
    failed: str = ""

    @property
    def label(self) -> str:
        """The settings in a few words."""
        s, words = self.settings, []
        if s["sparsity"]:
            words.append(f"{100 * s['sparsity']:.0f} % zeros")
        if s["codes"]:
            words.append(f"{s['codes']} codes")
        if s["mode"] != "none":
            words.append(f"int8 {s['mode']}")
        if s["spared"] and words:
            words.append(f"{100 * s['spared']:.0f} % of layers spared")
        return ", ".join(words) or "as it was"


def search(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    data: Any,
    output: str | os.PathLike[str] | None = None,
    *,
    max_loss: float = 0.005,
    metric: str | Metric | UserMetric | None = None,
    labels: Any = None,
    trials: int = 30,
    goal: str = "both",
    structure: str = "4x1",
    threads: int = 1,
    seed: int = 0,
    progress: Progress = silent,
) -> Result:
    """Tries settings of pruning, sharing, quantizing and of layers left alone; takes the best within an allowed loss.

    optuna proposes the settings (its multi-objective tree-structured Parzen estimator), after each tool has been tried
    by itself. Layers are spared in the order of their sensitivity, which is measured first.

    Args:
        model: a float model: a path, the bytes of a file, or an ``onnx.ModelProto``.
        data: samples, as for `linnet.compress.quantize`. The same ones calibrate and measure; keep others back.
        output: where the best model is written, if at all.
        max_loss: how much of the metric may go: 0.005 is half a point of accuracy; of "sqnr", noise of 0.5 % of the
            outputs' power (23 dB).
        metric, labels: as for `linnet.compress.quantize`; agreement with the model as it is when both are left out.
        trials: how many settings are tried.
        goal: what is small in the best one: "size", "latency", or "both", by the product of the two ratios.
        structure: the pattern of zeros.
        threads: of the timed runs.
        seed: of the library's choices.
        progress: is called with what is being done and how much of it is (0..1).

    Returns:
        The best model; its report has all trials and the Pareto front.

    Raises:
        InvalidArgument: an option does not fit, or there is no data.
        Fail: no setting keeps the loss; optuna is absent.
    """
    if goal not in _GOALS:
        raise _errors.InvalidArgument(f"goal {goal!r}: expected size, latency or both")
    if not max_loss >= 0 or trials < 1:
        raise _errors.InvalidArgument(f"max_loss {max_loss}, trials {trials}: expected at least 0 and at least 1")
    if patterns.Structure.parse(structure).kind == "n:m":
        raise _errors.InvalidArgument(f"structure {structure} has one sparsity only; search another, or use prune")
    optuna = _optuna()
    source = opened(model)
    _layers.refuse_quantized(source.graph, "compress it")
    samples = samples_of(source, data)
    if samples is None:
        raise _errors.InvalidArgument("a search needs data to measure on")
    kind = "agreement" if metric is None and labels is None else metric
    measured = metric_of(source, kind, labels, samples)
    assert measured is not None
    before = Trial({"sparsity": 0.0, "codes": 0, "mode": "none", "spared": 0.0})
    feeds = first_feeds(source, samples)
    _measure_into(before, source, measured, feeds, threads)
    order = _by_sensitivity(source, structure, samples, progress)
    done: list[Trial] = []
    best: tuple[Trial, Result] | None = None

    def objective(proposed: Any) -> tuple[float, float, float]:
        nonlocal best
        settings = {
            "sparsity": round(proposed.suggest_float("sparsity", 0.0, 0.9, step=0.1), 1),
            "codes": proposed.suggest_categorical("codes", [0, 16, 256]),
            "mode": proposed.suggest_categorical("mode", ["none", "static", "dynamic"]),
            "spared": proposed.suggest_float("spared", 0.0, 0.5, step=0.25),
        }
        trial = next((t for t in done if t.settings == settings), None)
        if trial is None:
            trial = Trial(settings)
            done.append(trial)
            progress(f"trial {proposed.number + 1} of {trials}: {trial.label}", proposed.number / trials)
            result = _made(source, samples, trial, structure, order)
            if result is not None:
                _measure_into(trial, result.model, measured, feeds, threads)
                within = trial.metric >= measured.least(before.metric, max_loss)
                if within and (best is None or worth(trial, before) < worth(best[0], before)):
                    best = trial, result
        if trial.failed:
            raise optuna.TrialPruned
        return trial.size / before.size, trial.seconds / before.seconds, before.metric - trial.metric

    worth = _GOALS[goal]
    study = optuna.create_study(directions=["minimize"] * 3, sampler=optuna.samplers.TPESampler(seed=seed))
    for settings in FIRST[:trials]:
        study.enqueue_trial(settings)
    study.optimize(objective, n_trials=trials)
    if best is None:
        nearest = max((t.metric for t in done if not t.failed), default=float("nan"))
        raise _errors.Fail(
            f"no setting keeps the {measured.name} within {max_loss:g} of {before.metric:.4f}; the best of {len(done)} "
            f"trials has {nearest:.4f}. Allow more, or prune while the model trains (linnet.compress.torch, .keras)"
        )
    chosen, result = best
    _describe(result, chosen, done, before, measured, max_loss, order)
    if output is not None:
        result.save(output)
    return result


_GOALS: dict[str, Callable[[Trial, Trial], float]] = {
    "size": lambda trial, before: trial.size / before.size,
    "latency": lambda trial, before: trial.seconds / before.seconds,
    "both": lambda trial, before: trial.size / before.size * trial.seconds / before.seconds,
}


def _optuna() -> ModuleType:
    try:
        found = importlib.import_module("optuna")
    except ImportError as error:
        raise _errors.Fail(f"a search needs optuna ({error}): pip install 'linnet[compress]'") from error
    found.logging.set_verbosity(found.logging.ERROR)
    return found


def _by_sensitivity(source: onnx.ModelProto, structure: str, samples: list[Feeds], progress: Progress) -> list[str]:
    """Names of the layers that can be pruned, most sensitive first."""
    layers, _ = _select.chosen(_layers.layers(source.graph), None, ())
    pattern = patterns.Structure.parse(structure)
    noise = sensitivity(source, layers, pattern, [SCANNED], samples[:SCAN_SAMPLES], None, progress)
    return sorted(noise, key=lambda name: noise[name][0])


def _made(
    source: onnx.ModelProto, samples: list[Feeds], trial: Trial, structure: str, order: Sequence[str]
) -> Result | None:
    """The model that the trial's settings make; without any, None, and the reason in the trial."""
    settings = trial.settings
    try:
        return compress(
            source,
            samples,
            sparsity=settings["sparsity"] or None,
            structure=structure,
            codes=settings["codes"] or None,
            mode=None if settings["mode"] == "none" else settings["mode"],
            exclude=order[: round(settings["spared"] * len(order))],
        )
    except _errors.LinnetError as error:
        trial.failed = str(error)
        return None


def _measure_into(trial: Trial, model: onnx.ModelProto, metric: Metric, feeds: Feeds, threads: int) -> None:
    trial.size = model.ByteSize()
    trial.seconds = latency(model, feeds, threads)
    trial.metric = score(metric, runner(model))


def front(trials: Sequence[Trial]) -> list[Trial]:
    """Those that no other one beats or equals in size, latency and metric, and beats in one."""

    def key(t: Trial) -> tuple[float, float, float]:
        return t.size, t.seconds, -t.metric

    def beaten(t: Trial) -> bool:
        return any(all(map(le, key(o), key(t))) and key(o) != key(t) for o in trials)

    return [t for t in trials if not beaten(t)]


def _describe(
    result: Result, chosen: Trial, done: list[Trial], before: Trial, metric: Metric, max_loss: float, order: list[str]
) -> None:
    """The report of the best trial tells of all."""
    result.metric = metric
    result.title = f"The best of {len(done)} settings: {chosen.label}"
    result.settings |= {"allowed loss": f"{max_loss:g} of the {metric.name}", "settings tried": f"{len(done)}"}
    spared = order[: round(chosen.settings["spared"] * len(order))]
    if spared:
        result.notes.append(f"Left alone, as the most sensitive: {', '.join(spared)}.")
    good = [before, *(t for t in done if not t.failed)]
    result.figures |= {"size": chosen.size / before.size, "latency": chosen.seconds / before.seconds}
    best = front(good)
    pictures = [
        Points(name, metric.name, [Point(x, t.metric, t.label, t in best) for x, t in zip(values, good, strict=True)])
        for name, values in (
            ("file in kB", [t.size / 1e3 for t in good]),
            ("one run in µs", [t.seconds * 1e6 for t in good]),
        )
    ]
    rows = [
        [t.label, _measure.size(t.size), _measure.duration(t.seconds), f"{t.metric:.4f}", "yes" if t in best else ""]
        for t in sorted(good, key=lambda t: -t.metric)
    ]
    table = Table(["settings", "file", "one run", metric.name, "unbeaten"], rows)
    text = "Each dot is a setting; joined are those that none beats in size, latency and quality at once."
    result.sections.insert(0, Section("What was tried", text, [*pictures, table]))
    failed = [[t.label, t.failed] for t in done if t.failed]
    if failed:
        result.sections.append(Section("Settings that made no model", parts=[Table(["settings", "why"], failed)]))
