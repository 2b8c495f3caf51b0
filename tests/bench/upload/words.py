"""What the lines are made of: names, addresses, user agents, SQL, stack traces; always the same ones."""

from __future__ import annotations

import random

LEVELS = ("INFO", "WARN", "DEBUG", "ERROR")
AREAS = ("order", "basket", "customer", "payment", "shipment", "invoice", "catalog", "search", "session")
VERBS = ("accept", "validate", "load", "store", "reserve", "release", "price", "publish", "expire", "merge")
_PARTS = ("Controller", "Service", "Repository", "Client", "Listener", "Mapper", "Validator", "Gateway")
PLACES = [f"{area}.{area.title()}{part}" for area in AREAS for part in _PARTS]
DOINGS = [f"{verb} {area}" for verb in VERBS for area in AREAS]

_FIELDS = ("id", "status", "created_at", "updated_at", "amount", "currency", "reference", "owner", "version",
           "street", "city", "country", "tax_rate", "discount", "quantity", "weight", "channel", "note",
           "deleted", "tenant")  # fmt: skip
_CAUSES = (
    "java.net.SocketTimeoutException: Read timed out",
    "java.lang.IllegalStateException: Connection pool shut down",
    "org.springframework.dao.DataIntegrityViolationException: could not execute statement",
    "com.fasterxml.jackson.databind.exc.MismatchedInputException: No content to map due to end-of-input",
    "java.util.concurrent.CompletionException: java.io.IOException: Broken pipe",
    "org.postgresql.util.PSQLException: ERROR: deadlock detected",
    'java.lang.NullPointerException: Cannot invoke "java.math.BigDecimal.add(...)" because "total" is null',
)
_PACKAGES = (
    "org.springframework.web.servlet.mvc.method.annotation",
    "org.springframework.transaction.interceptor",
    "org.springframework.aop.framework",
    "org.hibernate.engine.jdbc.internal",
    "org.apache.catalina.core",
    "org.apache.coyote.http11",
    "com.zaxxer.hikari.pool",
    "reactor.core.publisher",
    "java.util.concurrent",
    "jdk.internal.reflect",
    "io.netty.channel",
    "com.acme.orders.api",
    "com.acme.orders.domain",
    "com.acme.orders.store",
)
_SYSTEMS = (
    "Windows NT 10.0; Win64; x64",
    "Macintosh; Intel Mac OS X 10_15_7",
    "X11; Linux x86_64",
    "Linux; Android 14; Pixel 8",
    "iPhone; CPU iPhone OS 17_4 like Mac OS X",
)


def addresses(count: int) -> list[str]:
    """Of visitors."""
    world = random.Random("addresses")
    return [".".join(str(world.randrange(1, 255)) for _ in range(4)) for _ in range(count)]


def agents(count: int) -> list[str]:
    """The browsers that they use."""
    world = random.Random("agents")
    made = []
    for _ in range(count):
        version = f"{world.randrange(90, 130)}.0.{world.randrange(7000)}.{world.randrange(200)}"
        made.append(
            f"Mozilla/5.0 ({world.choice(_SYSTEMS)}) AppleWebKit/537.36 (KHTML, like Gecko)"
            f" Chrome/{version} Safari/537.36"
        )
    return made


def statements(count: int) -> list[str]:
    """SQL as a mapper of objects writes it: every column of every table that is joined, 0.5 to 3 KiB."""
    world = random.Random("statements")
    return [_statement(world) for _ in range(count)]


def stacks(count: int) -> list[str]:
    """Stack traces; below the frames of their own they go through one of eight ways to be called."""
    world = random.Random("stacks")
    callers = [_frames(world, 15, 40) for _ in range(8)]
    made = []
    for _ in range(count):
        below = world.choice(callers)
        cause, root = world.sample(_CAUSES, 2)
        made.append(
            f"{cause}\n{_frames(world, 8, 30)}{below}Caused by: {root}\n{_frames(world, 3, 15)}"
            f"\t... {below.count(chr(10))} more\n"
        )
    return made


def _statement(world: random.Random) -> str:
    tables = world.sample(AREAS, world.randint(1, 4))
    columns = [
        f"{table[0]}{number}_0.{table}_{field}"
        for number, table in enumerate(tables, 1)
        for field in world.sample(_FIELDS, world.randint(8, 18))
    ]
    first, *others = [f"{table}s {table[0]}{number}_0" for number, table in enumerate(tables, 1)]
    joins = "".join(f" left join {other} on {other.split()[1]}.id={tables[0][0]}1_0.ref" for other in others)
    where = f"{columns[0]}=? and {world.choice(columns)}>=? order by {world.choice(columns)} desc"
    return f"select {','.join(columns)} from {first}{joins} where {where} fetch first ? rows only"


def _frames(world: random.Random, least: int, most: int) -> str:
    return "".join(_frame(world) for _ in range(world.randint(least, most)))


def _frame(world: random.Random) -> str:
    name = f"{world.choice(AREAS).title()}{world.choice(_PARTS)}"
    method = f"{world.choice(VERBS)}{world.choice(AREAS).title()}"
    return f"\tat {world.choice(_PACKAGES)}.{name}.{method}({name}.java:{world.randrange(20, 900)})\n"
