"""Segmentation from 1 to 5 annotated images: Equiscope, its controls and its peers.

Every run is kept in OUT.partial.jsonl as soon as it is done. The same command goes on from there,
and one with more draws, seeds, sets or methods adds to it; a run is done again where anything that
its scores depend on has changed: images, examples, code or settings of its method.
"""

import argparse
import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks import datasets, learners, outcomes, protocol, runs, scoring
from benchmarks.datasets import Domain, Example, Set
from benchmarks.draws import draws
from benchmarks.measurement import Measurement, environment
from benchmarks.methods import Method
from benchmarks.peers import runner
from benchmarks.runs import Result, Run

QUICK_TESTS = 3


@dataclass(frozen=True, slots=True)
class Task:
    """A run that is to be done: what to learn from, how, and what to measure on."""

    run: Run
    method: Method
    examples: tuple[Example, ...]
    tests: tuple[Example, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add = parser.add_argument
    add("--data", type=Path, action="append", required=True, help="an image set; may be repeated")
    add("--shots", type=int, nargs="+", default=[1, 3, 5], help="numbers of annotated images")
    add("--draws", type=int, default=20, help="of the images, at most (default: 20)")
    add("--seeds", type=int, default=3, help="how many trainings per draw (default: 3)")
    add(
        "--methods",
        nargs="+",
        help="names, such as ours, plain, stardist (default: all); the first is what the others "
        "are compared with",
    )
    add("--seconds", type=float, default=600.0, help="that a peer may train (default: 600)")
    add("--smallest", type=int, default=0, help="voxels: also score without smaller objects")
    add("--domains", nargs="+", help="to measure on, of sets that have several (default: all)")
    add("--tests", type=int, help="how many images of each domain to measure on (default: all)")
    add("--peers", type=Path, default=runner.PYTHON, help="Python of the peers' environment")


def measure(options: argparse.Namespace) -> Measurement:
    """Do every run that is not done yet.

    Raises RuntimeError where a set is not understood, or a method fails.
    """
    if options.quick:
        tests = min(options.tests or QUICK_TESTS, QUICK_TESTS)
        less = {"shots": options.shots[:1], "draws": 1, "seeds": 1, "tests": tests}
        options = argparse.Namespace(**vars(options) | less)
    here = environment()
    if torch.cuda.is_available():
        here["accelerator"] = torch.cuda.get_device_name()
    methods, absent = _methods(options)
    sets = _sets(options.data, options.domains, options.tests)
    tasks, left_out = plan(sets, methods, options)
    partial = options.out.with_suffix(".partial.jsonl") if options.out else None
    results = done(tasks, partial)
    told = protocol.told(sets, methods, results, [*left_out, *absent], options.smallest)
    metrics = scoring.metrics(options.smallest)
    figures = outcomes.figures(results, [method.name for method in methods], metrics)
    return Measurement("fewshot", told, here, figures)


def _methods(options: argparse.Namespace) -> tuple[list[Method], list[str]]:
    """The methods to compare, and a sentence for each that is not installed."""
    known = {method.name: method for method in learners.learners()}
    methods, absent = [], []
    for name in options.methods or [*known, *runner.TOLD]:
        if name not in known and name not in runner.TOLD:
            every = ", ".join([*known, *runner.TOLD])
            raise RuntimeError(f"there is no method {name!r}; there are {every}.")
        method = known.get(name) or runner.peer(name, options.peers, options.seconds)
        if method is None:
            absent.append(runner.absent(name, options.peers))
        else:
            methods.append(method)
    if not methods:
        raise RuntimeError(" ".join(absent))
    return methods, absent


def _sets(folders: Sequence[Path], names: Sequence[str] | None, tests: int | None) -> list[Set]:
    """Read the sets: these domains where there are several, with so many tests of each."""
    try:
        sets = [datasets.read(folder) for folder in folders]
    except ValueError as fault:
        raise RuntimeError(str(fault)) from fault
    if len({one.name for one in sets}) < len(sets):
        raise RuntimeError("two folders of --data have the same name.")
    known = {name for one in sets for name in one.domains if name}
    if unknown := set(names or ()) - known:
        raise RuntimeError(
            f"--domains {' '.join(sorted(unknown))}: no set has it; there are "
            f"{', '.join(sorted(known)) or 'none'}."
        )
    return [
        Set(
            one.name,
            {
                name: dataclasses.replace(domain, tests=domain.tests[:tests])
                for name, domain in one.domains.items()
                if not (name and names) or name in names
            },
        )
        for one in sets
    ]


def plan(
    sets: Sequence[Set], methods: Sequence[Method], options: argparse.Namespace
) -> tuple[list[Task], list[str]]:
    """Every run, and a sentence for each thing that was asked for and cannot be."""
    tasks: list[Task] = []
    left_out: list[str] = []
    for one in sets:
        for name, domain in one.domains.items():
            where = f"{one.name}/{name}" if name else one.name
            able = [method for method in methods if domain.axes in method.axes]
            if unable := [method.name for method in methods if method not in able]:
                left_out.append(f"{where}: without {', '.join(unable)}, which do no volumes.")
            for k in options.shots:
                added = list(_runs(one.name, name, domain, able, k, options))
                tasks += added
                if not added:
                    left_out.append(f"{where}: not measured with {k} shots, it has not so many.")
    if not tasks:
        raise RuntimeError(f"there is nothing to measure: {' '.join(left_out)}")
    return tasks, left_out


def _runs(
    of: str, name: str, domain: Domain, methods: Sequence[Method], k: int, o: argparse.Namespace
) -> Iterator[Task]:
    """The runs of one domain with `k` shots: all methods on a draw before the next draw."""
    data = domain.digest()
    reserve = k * (max((method.times for method in methods), default=1) - 1)
    for draw in draws(domain, k, o.draws, 0, reserve):
        for seed in range(o.seeds):
            for method in methods:
                examples = draw.of(method.times)
                if method.times > 1 and len(examples) == k:
                    continue
                names = tuple(example.name for example in examples)
                version = method.version
                run = Run(
                    of, name, k, draw.number, seed, method.name, version, names, data, o.smallest
                )
                yield Task(run, method, examples, domain.tests)


def done(tasks: Sequence[Task], partial: Path | None) -> list[Result]:
    """The results of the tasks: those in `partial`, and new ones, which are added to it."""
    known = runs.read(partial) if partial else {}
    missing = [task for task in tasks if task.run not in known]
    with tqdm(total=len(tasks), initial=len(tasks) - len(missing), unit="run") as progress:
        for task in missing:
            progress.set_postfix_str(f"{task.run.where}, {task.run.k}, {task.run.method}")
            known[task.run] = result = _done(task)
            if partial:
                runs.append(partial, result)
            progress.update()
    return [known[task.run] for task in tasks]


def _done(task: Task) -> Result:
    """Learn, then label the tests, then look at their labels."""
    began = time.monotonic()
    try:
        learned = task.method.learn(task.examples, task.run.seed)
    except ValueError as fault:
        raise RuntimeError(f"{task.run.method} on {task.run.where}: {fault}") from fault
    trained = time.monotonic()
    predicted = learned.predict([test.image for test in task.tests])
    finished = time.monotonic()
    scores = scoring.mean_of(
        [
            scoring.scores(labels, test.labels, task.run.smallest)
            for labels, test in zip(predicted, task.tests, strict=True)
        ]
    )
    return Result(
        run=task.run,
        scores=scores,
        learn_s=round(trained - began, 2),
        predict_s=round(finished - trained, 2),
        tests=len(task.tests),
        steps=learned.steps,
        full_steps=learned.full_steps,
    )
