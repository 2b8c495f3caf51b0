"""`logs verify` and `logs fetch`: the same reading, without and with a place to keep it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click

from lifecycle_agent.cli.transfer import Transfer, amount
from lifecycle_agent.clients.s3_read import S3Reader
from lifecycle_agent.errors import Interrupted, LifecycleAgentError
from lifecycle_agent.steps.logs.check import THREADS, Check, Keep, Result
from lifecycle_agent.steps.logs.directory import Directory
from lifecycle_agent.steps.logs.saved import load, place, printable
from lifecycle_agent.steps.logs.threads import bounded


def read(url: str, directory: Path | None, seconds: float, as_json: bool) -> int:
    """Prove an upload, and keep it in a directory where one is given. Returns the exit code."""
    name, key = place(url)
    with Transfer(seconds) as work, ExitStack() as stack:
        try:
            work.say("reading the manifest")
            bucket = S3Reader(name, THREADS)
            saved = bounded(lambda: load(bucket, key, work.deadline), work, work.deadline)
            keep: Keep | None = None
            if directory is not None:
                keep = opened = stack.enter_context(Directory(directory))
                opened.manifest(saved.content)
            result = Check(saved, bucket, keep).run(work)
        except TimeoutError:
            raise LifecycleAgentError(
                f"time ran out before s3://{name}/{key} was read", "give it more time: --timeout"
            ) from None
        except Interrupted:
            again = "; what is there is kept, run it again to go on" if directory is not None else ""
            click.echo(f"stopped before the end{again}", err=True)
            return 128 + work.signal
    if as_json:
        click.echo(json.dumps(result.as_json()))
    else:
        for line in _lines(result, directory):
            click.echo(line)
    return 0 if result.whole else 1


def _lines(result: Result, directory: Path | None) -> Iterator[str]:
    """What is not as it should be, a line each; the last line is the sum."""
    head = {name: printable(text) for name, text in result.saved.head.items()}
    yield printable(result.saved.url)
    yield f"  of {head['instance_id']} in {head['group']}, {head['started']} to {head['finished']}"
    for path, what in result.saved.ignored.items():
        yield f"ignored: {printable(path)}: {printable(what)}"
    for entry in result.proven:
        if entry.note:
            yield f"note: {printable(entry.source)}: {printable(entry.note)}"
    for entry in result.partial:
        what = f"all but its first {entry.bytes} bytes"
        yield f"left behind: {printable(entry.source)}: {what}: {printable(entry.why)}"
    for entry in result.missing:
        yield f"left behind: {printable(entry.source)}: {printable(entry.why)}"
    for entry, why in result.wrong:
        yield f"wrong: {printable(entry.source)}: {why}"
    if directory is not None:
        files = len(result.proven) + len(result.partial)
        there = f", {len(result.kept)} of them there already" if result.kept else ""
        yield f"fetched to {printable(str(directory))}: {files} files{there}"
    size = sum(entry.bytes for entry in result.proven)
    behind = len(result.partial) + len(result.missing)
    wrong = f"; {len(result.wrong)} wrong" if result.wrong else ""
    yield f"proven: {len(result.proven)} files, {size} bytes ({amount(size)}); {behind} left behind{wrong}"
