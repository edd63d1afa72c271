"""TPC-H on DataFusion alone and through Steward's guard, with DuckDB and roapi beside them, in one run.

Started by run.sh, which has built Steward and its bench, installed the peers and made the data. All read the same Parquet
files. DuckDB's answers to the 22 queries are compared with everybody's before anything is timed. In a round, everybody
runs every query ROUNDS_EACH times: each way of the bench in a process of its own, as it would be used, with another one
first each time; DuckDB in this one; roapi and Steward over HTTP in turns. Prints Markdown.
"""

import csv
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import pyarrow.ipc
from servers import TABLES, Roapi, Steward

HERE = Path(__file__).parent
BENCH, STEWARD, DATA = (os.environ[name] for name in ("STEWARD_BENCH", "STEWARD", "DATA"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
ROUNDS_EACH = int(os.environ.get("ROUNDS_EACH", "3"))
BAR = 1.02
# The longest answer at scale 1 has 18,314 rows.
LIMITS = {"max_rows": 20_000, "timeout_seconds": 3_600}
QUERIES = {path.stem: path.read_text() for path in sorted((HERE / "queries").glob("*.sql"))}
WAYS = ["raw", "guarded", "views", "policies", "defaults"]
DUCKDB, ROAPI, HTTP = "DuckDB", "roapi", "Steward over HTTP"


def bench(*arguments):
    done = subprocess.run([BENCH, "--data", DATA, *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{BENCH} ended with status {done.returncode}")
    return done.stdout


def open_duckdb():
    connection = duckdb.connect(config={"threads": os.cpu_count()})
    for table in TABLES:
        connection.execute(f"CREATE VIEW {table} AS FROM read_parquet('{Path(DATA, 'tpch', table)}.parquet')")
    return connection


def is_same(expected, found):
    """Texts to the letter; numbers within what averages of decimals are rounded to."""
    if expected is None:
        return found is None or found == ""
    if isinstance(expected, str):
        return found == expected
    if isinstance(expected, datetime.date):
        return str(found)[:10] == expected.isoformat()
    if found is None or found == "":
        return False
    expected, found = float(expected), float(found)
    return abs(expected - found) <= max(1e-6, 1e-5 * abs(expected))


def compare(who, query, expected, found):
    if len(expected) != len(found):
        sys.exit(f"{query}: {who} has {len(found)} rows, DuckDB {len(expected)}")
    for number, (one, other) in enumerate(zip(expected, found), start=1):
        if len(one) != len(other) or not all(map(is_same, one, other)):
            sys.exit(f"{query}, row {number}: {who} has {other}, DuckDB {one}")


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))[1:]


def rows_of(body):
    table = pyarrow.ipc.open_stream(body).read_all()
    return list(zip(*(column.to_pylist() for column in table.columns)))


def timed(work):
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


class Times:
    """Milliseconds by who and query."""

    def __init__(self):
        self.wall, self.cpu = {}, {}

    def add(self, who, query, milliseconds):
        self.wall.setdefault(who, {}).setdefault(query, []).extend(milliseconds)

    def least(self, who, query):
        return min(self.wall[who][query])

    def median(self, who, query):
        return statistics.median(self.wall[who][query])

    def total(self, who, of):
        return sum(of(who, query) for query in QUERIES)


def verify(connection, servers):
    """Number of rows by query."""
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        # The bench compares what it runs with raw DataFusion each time.
        bench("--answers", folder, "--ways", "guarded", "--rounds", "0", "--json")
        for query, sql in QUERIES.items():
            expected = connection.execute(sql).fetchall()
            compare("Steward", query, expected, read_csv(Path(folder, f"{query}.csv")))
            for server in servers:
                compare(server.name, query, expected, rows_of(server.ask(sql).read()))
            counts[query] = len(expected)
    return counts


def measure(connection, roapi, steward):
    times = Times()
    for turn in range(ROUNDS):
        print(f"round {turn + 1} of {ROUNDS}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        for at in range(len(WAYS)):
            way = WAYS[(turn + at) % len(WAYS)]
            for found in json.loads(bench("--ways", way, "--rounds", str(ROUNDS_EACH), "--json")):
                times.add(way, found["query"], found[way]["ms"])
                times.cpu[way] = times.cpu.get(way, 0) + found[way]["cpu_ms"]
        # Servers close connections that were idle meanwhile.
        for server in (roapi, steward):
            server.connect()
            server.ask("SELECT 1 AS one").read()
        for query, sql in QUERIES.items():
            for _ in range(ROUNDS_EACH):
                times.add(DUCKDB, query, [timed(lambda: connection.execute(sql).fetchall())])
                times.add(ROAPI, query, [timed(lambda: roapi.ask(sql).read())])
                times.add(HTTP, query, [timed(lambda: steward.ask(sql).read())])
    return times


def table(times, counts, base, names):
    """Shortest and median time of each query for several, and what all of them are of the first."""
    heads = " | ".join(f"{title}, min | median" for title in names.values())
    print(f"\n| query | rows | {heads} |\n|---|---|{'---|---|' * len(names)}")
    for query in QUERIES:
        cells = " | ".join(f"{times.least(who, query):.1f} | {times.median(who, query):.1f}" for who in names)
        print(f"| {query} | {counts[query]:,} | {cells} |")
    least, median = ({who: times.total(who, of) for who in names} for of in (times.least, times.median))
    print("| all, ms | | " + " | ".join(f"{least[who]:.0f} | {median[who]:.0f}" for who in names) + " |")
    ratios = (f"{least[who] / least[base]:.3f} | {median[who] / median[base]:.3f}" for who in names)
    print("| times the first | | " + " | ".join(ratios) + " |")


def main():
    print(f"{len(QUERIES)} queries, rounds: {ROUNDS}, each of {ROUNDS_EACH}; {os.cpu_count()} cores, load "
          f"{os.getloadavg()[0]:.1f} at the start.")
    connection = open_duckdb()
    with tempfile.TemporaryDirectory() as folder:
        roapi = Roapi(Path(sys.executable).parent / "roapi", DATA, Path(folder, "roapi"))
        steward = Steward(STEWARD, DATA, Path(folder, "steward"), LIMITS)
        with roapi.server(), steward.server():
            for server in (roapi, steward):
                server.connect()
            counts = verify(connection, [roapi, steward])
            times = measure(connection, roapi, steward)
    table(times, counts, "raw", {"raw": "DataFusion", "guarded": "guarded", "defaults": "DataFusion as it comes",
                                 DUCKDB: "DuckDB"})
    table(times, counts, "raw", {"raw": "DataFusion", "views": "filter and mask as views", "policies": "policies"})
    table(times, counts, HTTP, {HTTP: HTTP, ROAPI: ROAPI})
    processor = ", ".join(f"{way} {times.cpu[way] / times.cpu['raw']:.3f}" for way in times.cpu)
    print(f"\nProcessor time, times that of raw DataFusion: {processor}.")
    ratio = times.total("guarded", times.least) / times.total("raw", times.least)
    print(f"\nGuarded takes {ratio:.3f} times raw DataFusion; the bar is {BAR}: {'kept' if ratio <= BAR else 'missed'}. "
          f"Load {os.getloadavg()[0]:.1f} at the end.")


if __name__ == "__main__":
    main()
