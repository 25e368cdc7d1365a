"""The figures of the few-shot benchmark: what all runs say about each method, wins and losses."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from benchmarks import scoring
from benchmarks.measurement import Figure
from benchmarks.runs import Result
from benchmarks.scoring import AP50, Statistic, Values

Pick = Callable[[Result], float]
Domains = Mapping[str, Sequence[Result]]
"""Results of one method by domain, ordered by draw and seed."""


def figures(
    results: Sequence[Result], methods: Sequence[str], metrics: Sequence[str]
) -> tuple[Figure, ...]:
    """Figures of each set, number of shots and method, then differences from the first method.

    Where a set has several domains, a figure of the set is the mean over them.
    """
    cases = dict.fromkeys((result.run.set, result.run.k) for result in results)
    found: list[Figure] = []
    for name, k in cases:
        here = [r for r in results if (r.run.set, r.run.k) == (name, k)]
        by_method = {method: _by_domain(here, method) for method in methods}
        title = f"{name}, {k} {'shot' if k == 1 else 'shots'}"
        for method, domains in by_method.items():
            if domains:
                found += _of_method(f"{title}, {method}", domains, metrics)
        first, *others = methods
        for other in others:
            found += _differences(title, first, other, by_method)
    return tuple(found)


def _by_domain(results: Sequence[Result], method: str) -> Domains:
    mine = sorted(
        (r for r in results if r.run.method == method), key=lambda r: (r.run.draw, r.run.seed)
    )
    names = dict.fromkeys(r.run.domain for r in results)
    every = {name: [r for r in mine if r.run.domain == name] for name in names}
    return {name: runs for name, runs in every.items() if runs}


def _of_method(title: str, domains: Domains, metrics: Sequence[str]) -> Iterator[Figure]:
    for metric in metrics:
        values = [_values(runs, _score(metric)) for runs in domains.values()]
        yield _figure(f"{title}: {metric}", values, scoring.mean, "")
        if metric == AP50:
            yield _figure(f"{title}: {metric}, 10th percentile", values, scoring.tenth, "")
            for domain, one in zip(domains, values, strict=True):
                if len(domains) > 1:
                    yield _figure(f"{title}: {metric} on {domain}", [one], scoring.mean, "")
    times: dict[str, Pick] = {
        "learning": lambda result: result.learn_s,
        "segmenting an image": lambda result: result.predict_s / result.tests,
    }
    for name, pick in times.items():
        seconds = [_values(runs, pick) for runs in domains.values()]
        yield _figure(f"{title}: time of {name}", seconds, scoring.mean, "s")


def _differences(
    title: str, first: str, other: str, by_method: Mapping[str, Domains]
) -> Iterator[Figure]:
    """AP50 of one method less that of another, on the same draws and seeds."""
    pairs = {
        domain: _values(runs, _score(AP50)) - _values(by_method[other][domain], _score(AP50))
        for domain, runs in by_method[first].items()
        if domain in by_method[other]
    }
    if pairs:
        name = f"{title}, {first} - {other}: {AP50}"
        yield _figure(name, list(pairs.values()), scoring.mean, "")
        for domain, one in pairs.items():
            if len(pairs) > 1:
                yield _figure(f"{name} on {domain}", [one], scoring.mean, "")


def _score(metric: str) -> Pick:
    return lambda result: result.scores[metric]


def _values(runs: Sequence[Result], pick: Pick) -> Values:
    """One number of each run, `(draws, seeds)`."""
    draws = len({result.run.draw for result in runs})
    return np.array([pick(result) for result in runs], np.float64).reshape(draws, -1)


def _figure(name: str, domains: Sequence[Values], statistic: Statistic, unit: str) -> Figure:
    """A figure whose spread is its bootstrap interval."""
    value = scoring.over_domains(domains, statistic)
    return Figure(name, value, scoring.interval(domains, statistic), unit, target=None, met=None)
