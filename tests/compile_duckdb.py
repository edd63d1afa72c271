#!/usr/bin/env python3
"""Compares compiled metric queries with hand-written SQL in another engine.

Each query of tests/compile/queries.yaml is compiled with `steward compile` and run with `steward sql`; its hand-written SQL runs in
DuckDB over the same Parquet files. Makes a virtual environment with duckdb and pyyaml from PyPI in a temporary folder.

    tests/compile_duckdb.py [path of the steward binary]

Exit code 0 if all agree.
"""

import datetime
import decimal
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
DATA = CHECKOUT / "examples" / "nycflights13"


def inside_venv(folder):
    """Runs this script again where duckdb and pyyaml are."""
    venv.create(folder, with_pip=True)
    python = pathlib.Path(folder) / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "duckdb", "pyyaml"], check=True)
    environment = {**os.environ, "STEWARD_COMPARING": "1"}
    return subprocess.run([python, __file__, *sys.argv[1:]], env=environment, check=False).returncode


def plain(value):
    """One value, so that equal ones of both engines are equal: numbers to nine digits, moments as ISO text."""
    if value is None:
        return None
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()[:10] if not getattr(value, "hour", 0) else value.isoformat()
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float, decimal.Decimal)):
        return float(f"{float(value):.9g}")
    return str(value)


def rows(raw):
    return sorted(([plain(value) for value in row] for row in raw), key=lambda row: [(v is None, str(v)) for v in row])


def main():
    if "STEWARD_COMPARING" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            return inside_venv(folder)
    import duckdb
    import yaml

    steward = sys.argv[1] if len(sys.argv) > 1 else shutil.which("steward") or str(CHECKOUT / "target/debug/steward")
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA flights")
    for table in ["flights", "airlines", "airports", "planes", "weather"]:
        connection.execute(f"CREATE VIEW flights.{table} AS SELECT * FROM '{DATA / table}.parquet'")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        semantic = pathlib.Path(folder) / "semantic" / "flights"
        semantic.mkdir(parents=True)
        for path in [*(CHECKOUT / "semantic" / "flights").glob("*.yaml"), CHECKOUT / "tests" / "compile" / "model.yaml"]:
            shutil.copy(path, semantic / ("more.yaml" if path.parent.name == "compile" else path.name))
        environment = {
            **os.environ,
            "STEWARD__SEMANTIC__DIR": str(semantic.parent),
            "STEWARD__DATA_DIR": str(pathlib.Path(folder) / "data"),
        }
        environment.pop("STEWARD_COMPARING")

        def run(*arguments, text=None):
            done = subprocess.run(
                [steward, *arguments], input=text, env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(done.stderr.strip())
            return done.stdout

        cases = yaml.safe_load((CHECKOUT / "tests" / "compile" / "queries.yaml").read_text())
        for case in cases:
            try:
                sql = run("compile", "-", text=json.dumps(case["query"], default=str))
                answer = run("sql", "--format", "json", "-c", sql)
                ours = rows(list(row.values()) for row in json.loads(answer))
                theirs = rows(connection.execute(case["sql"]).fetchall())
                problem = None if ours == theirs else f"{len(ours)} rows {ours[:3]} are not {len(theirs)} rows {theirs[:3]}"
            except (RuntimeError, duckdb.Error, ValueError) as error:
                problem = str(error)
            wrong += problem is not None
            print(f"{'ok' if problem is None else 'NOT'} {case['name']}" + (f": {problem}" if problem else ""))
    print(f"{len(cases) - wrong} of {len(cases)} agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
