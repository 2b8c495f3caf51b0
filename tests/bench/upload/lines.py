"""Lines of three kinds of log, as a web server, a service that logs JSON and a Java service write them.

Written from a seed, so that they are the same in every run. What repeats in real logs repeats here as far
apart: a few user agents make most requests, most customers come once, a request's id is in several lines, and
stack traces and SQL statements are long, and many, and come again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from itertools import accumulate

from tests.bench.upload import words

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)

Lines = Callable[[random.Random], Iterator[str]]


class Often:
    """Things of which the first come often and the last seldom, as Zipf has it."""

    def __init__(self, rng: random.Random, things: Sequence[str], slope: float = 1.0) -> None:
        self._rng = rng
        self._things = things
        self._weights = list(accumulate(1 / (rank + 1) ** slope for rank in range(len(things))))
        self._next: list[str] = []

    def __call__(self) -> str:
        if not self._next:
            self._next = self._rng.choices(self._things, cum_weights=self._weights, k=500)
        return self._next.pop()


def access(rng: random.Random) -> Iterator[str]:
    """A web server's log: the combined format, then the time it took, the upstream, the request's id."""
    client = Often(rng, words.addresses(20_000), 0.8)
    agent = Often(rng, words.agents(400), 1.2)
    page = Often(rng, [f"/{area}/{verb}" for area in words.AREAS for verb in words.VERBS])
    at = BEGAN
    while True:
        at += timedelta(milliseconds=rng.expovariate(1 / 40))
        chance, what = rng.random(), page()
        path = f"/api/v1{what}/{rng.randrange(10**6)}" if chance < 0.5 else f"/static{what}.js?v=4.17.2"
        status = "200" if chance < 0.9 else rng.choice(("201", "204", "304", "401", "404", "404", "503"))
        took = f"{rng.lognormvariate(-3.5, 1):.3f}"
        yield (
            f"{client()} - - [{at:%d/%b/%Y:%H:%M:%S +0000}]"
            f' "{"POST" if chance < 0.2 else "GET"} {path} HTTP/1.1" {status}'
            f" {int(rng.lognormvariate(7, 1.2))}"
            f' "https://shop.example.com{what}" "{agent()}" rt={took} uct="0.000" urt="{took}"'
            f" upstream=10.0.{len(what) % 4}.{17 + len(what)}:8080 id={rng.getrandbits(128):032x}\n"
        )


def records(rng: random.Random) -> Iterator[str]:
    """A service's JSON, a handful of records for each request, with the ids that tracing puts in."""
    place, doing = Often(rng, words.PLACES), Often(rng, words.DOINGS)
    statement, stack = Often(rng, words.statements(150), 0.8), Often(rng, words.stacks(120))
    customer = Often(rng, [f"C-{number:07d}" for number in rng.sample(range(10**7), 20_000)], 0.7)
    at = BEGAN
    while True:
        request = (
            f'"thread":"http-nio-8080-exec-{rng.randrange(32)}","trace_id":"{rng.getrandbits(128):032x}",'
            f'"customer":"{customer()}","order":{rng.randrange(10**8)}'
        )
        for _ in range(rng.randint(4, 12)):
            at += timedelta(milliseconds=rng.expovariate(1 / 3))
            level = rng.choices(words.LEVELS, cum_weights=(77, 80, 97, 100))[0]
            more = ""
            if level == "DEBUG":
                more = f',"sql":"{statement()}","rows":{int(rng.lognormvariate(1, 1))}'
            elif level == "ERROR":
                more = f',"stack_trace":{json.dumps(stack())}'
            yield (
                f'{{"@timestamp":"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z","level":"{level}",'
                f'"service":"orders","version":"2.41.7","host":"ip-10-0-0-7","pid":1742,'
                f'"logger":"com.acme.{place()}",{request},"span_id":"{rng.getrandbits(64):016x}",'
                f'"message":"{doing()}: {rng.randrange(10**6)} of {rng.lognormvariate(4, 1):.2f} EUR",'
                f'"duration_ms":{rng.lognormvariate(2.5, 1.1):.3f}{more}}}\n'
            )


def traces(rng: random.Random) -> Iterator[str]:
    """A Java service's text: lines, the statements that Hibernate sends, and exceptions with their frames."""
    place, doing = Often(rng, words.PLACES), Often(rng, words.DOINGS)
    statement, stack = Often(rng, words.statements(150), 0.8), Often(rng, words.stacks(120))
    at = BEGAN
    while True:
        at += timedelta(milliseconds=rng.expovariate(1 / 15))
        level = rng.choices(words.LEVELS, cum_weights=(80, 82, 95, 100))[0]
        head = (
            f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03d} {level:<5}"
            f" [http-nio-8080-exec-{rng.randrange(32)}] [{rng.getrandbits(64):016x}]"
        )
        if level == "DEBUG":
            yield f"{head} org.hibernate.SQL - {statement()}\n"
            continue
        yield (
            f"{head} c.a.{place()} - {doing()} for order {rng.randrange(10**8)}"
            f" took {int(rng.lognormvariate(2.5, 1.1))} ms\n"
        )
        if level == "ERROR":
            yield stack()
