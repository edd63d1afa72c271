"""Loading semantic models and compiling a metric query, Steward beside wren-core and MetricFlow, in one run.

Started by run.sh, which has built Steward's bench and installed the peers. All have the same models and are asked for the
same metric by the same field across the same join; peers.py says what each one does in that time. They take turns, ROUNDS
times, each in a process of its own; the tables have the medians. Who exceeds TIME_LIMIT_S at a size is not asked for it
again. Prints Markdown; one example of everybody's SQL goes to stderr.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
BENCH = os.environ["STEWARD_BENCH"]
SIZES = [int(size) for size in os.environ.get("SIZES", "100 1000").split()]
ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = os.environ.get("SECONDS_EACH", "5")
TIME_LIMIT_S = int(os.environ.get("TIME_LIMIT_S", "900"))
STEWARD, APART, WREN, EXTRACTED, METRICFLOW = (
    "Steward, one model", "Steward, a model a pair", "wren-core", "wren-core, only the models of the query, each time",
    "MetricFlow")


def run(command, limit=TIME_LIMIT_S):
    """What a process prints, read as JSON; None if it took too long."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with status {done.returncode}")
    return json.loads(done.stdout) if done.stdout.strip() else {}


def steward(size, shape):
    command = [BENCH, "--json", "--fields", "0", "--rounds", "3", "--shape", shape, "--sizes", str(size)]
    found = run(command)
    return found and found["sizes"][0]


def peer(name, folder, size):
    return run([sys.executable, HERE / "peers.py", name, folder / f"{name}.json", str(size), SECONDS])


def measure(size):
    """Results of every contestant by name; None for one that took too long."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run([BENCH, "--write", folder / "models", "--shape", "one", "--sizes", str(size)])
        # MetricFlow's transformations are slow as well, and not what is measured.
        run([sys.executable, HERE / "peers.py", "translate", folder / "models", folder], limit=None)
        ways = {STEWARD: lambda: steward(size, "one"), APART: lambda: steward(size, "pairs"),
                WREN: lambda: peer("wren", folder, size), METRICFLOW: lambda: peer("metricflow", folder, size)}
        results = {name: [] for name in ways}
        for turn in range(ROUNDS):
            for name, way in ways.items():
                if results[name] is None:
                    continue
                print(f"{size} datasets, round {turn + 1} of {ROUNDS}: {name}", file=sys.stderr)
                found = way()
                if found is None:
                    print(f"{name} took more than {TIME_LIMIT_S} s", file=sys.stderr)
                    results[name] = None
                else:
                    results[name].append(found)
    for name, runs in results.items():
        if runs:
            print(f"\n-- {name}\n{runs[0]['sql']}", file=sys.stderr)
    return results


def median(runs, *path):
    def value(run):
        for key in path:
            run = run[key]
        return run
    return statistics.median(value(run) for run in runs)


def time(milliseconds):
    if milliseconds >= 1_000:
        return f"{milliseconds / 1e3:,.2f} s"
    if milliseconds >= 1:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds:.4f} ms"


def ratio(theirs, ours):
    times = theirs / ours
    return f"{times:,.0f}" if times >= 10 else f"{times:.1f}"


def line(name, runs, ours, columns, path=()):
    """A row of a table; a column that is named twice in a row is a ratio the second time."""
    if runs is None:
        return f"| {name} | not within {TIME_LIMIT_S} s |" + " |" * (len(columns) - 1)
    cells, last = [name], None
    for column in columns:
        if column != last:
            cells.append(time(median(runs, *path, *column)))
        elif runs is ours:
            cells.append("")
        else:
            cells.append(ratio(median(runs, *path, *column), median(ours, *column)))
        last = column
    return "| " + " | ".join(cells) + " |"


def main():
    for size in SIZES:
        results = measure(size)
        ours = results[STEWARD]
        if not ours:
            sys.exit(f"Steward took more than {TIME_LIMIT_S} s; set TIME_LIMIT_S")
        rows = [(name, runs, ()) for name, runs in results.items()]
        print(f"\n| {size:,} datasets | load | times Steward's | CPU |\n|---|---|---|---|")
        for name, runs, _ in rows:
            print(line(name, runs, ours, [("load_ms",), ("load_ms",), ("load_cpu_ms",)]))
        rows.insert(3, (EXTRACTED, results[WREN], ("extracted",)))
        print(f"\n| {size:,} datasets | compile, p50 | times Steward's | p99 | CPU | another query each time, p50 | "
              "times Steward's |\n|---|---|---|---|---|---|---|")
        for name, runs, path in rows:
            print(line(name, runs, ours, [
                ("same", "p50_ms"), ("same", "p50_ms"), ("same", "p99_ms"), ("same", "cpu_ms"), ("others", "p50_ms"),
                ("others", "p50_ms")], path))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
