"""The peak of the service's memory while it streams a result of more than 1 GB, in each format.

Started by run.sh, which has built Steward and made the data. Every format has a service of its own, which has loaded the
embedding model (that takes more for a moment than it keeps) and opens the files for this one query. The reader takes the body as fast as it comes and throws it away.
Prints Markdown.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tpch"))
from servers import ARROW, Steward  # noqa: E402, it lies beside the bench of TPC-H

STEWARD, DATA = os.environ["STEWARD"], os.environ["DATA"]
LEAST_BYTES = int(os.environ.get("LEAST_BYTES", "1000000000"))
BAR_MB = 600
FORMATS = {"NDJSON": "application/x-ndjson", "CSV": "text/csv", "Arrow": ARROW,
           "Parquet": "application/vnd.apache.parquet"}
# A result counts as Arrow holds it.
LIMITS = {"max_rows": 2**40, "max_result_bytes": 2**40, "timeout_seconds": 3600}
PIECE_BYTES = 1 << 20


def memory_mb(process, what):
    """What Linux says of a process: `VmRSS` now, `VmHWM` at most."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    sys.exit("this system does not tell how much memory a process had at most; Linux does")


def settle(process):
    """Waits for the end of what a start leaves to the background: it embeds the names of the model."""
    used = None
    while True:
        before, used = used, Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        if used == before:
            return
        time.sleep(2)


def forget_peak(process):
    """Has `VmHWM` begin anew (proc(5), clear_refs)."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def stream(accept, copies):
    """Bytes of the body, seconds, and the service's memory: at most while it started, before the query, at most since."""
    sql = " UNION ALL ".join(["SELECT * FROM tpch.lineitem"] * copies)
    with tempfile.TemporaryDirectory() as folder:
        steward = Steward(STEWARD, DATA, Path(folder, "steward"), LIMITS)
        with steward.server() as process:
            steward.connect()
            settle(process)
            start, idle = memory_mb(process, "VmHWM"), memory_mb(process, "VmRSS")
            forget_peak(process)
            started, size = time.perf_counter(), 0
            answer = steward.ask(sql, accept)
            while piece := answer.read(PIECE_BYTES):
                size += len(piece)
            seconds = time.perf_counter() - started
            return size, seconds, start, idle, memory_mb(process, "VmHWM")


def main():
    rows, missed = [], []
    for name, accept in FORMATS.items():
        copies = 1
        while True:
            print(f"{name}: lineitem {copies} times", file=sys.stderr)
            size, seconds, start, idle, most = stream(accept, copies)
            if size >= LEAST_BYTES:
                break
            copies = max(copies + 1, -(-copies * LEAST_BYTES * 11 // (size * 10)))
        rows.append(f"| {name} | {copies} | {size / 1e9:.2f} GB | {seconds:.1f} s | {size / 1e6 / seconds:.0f} MB/s "
                    f"| {start:.0f} MB | {idle:.0f} MB | {most:.0f} MB |")
        if max(start, most) >= BAR_MB:
            missed.append(name)
    print("| format | copies of lineitem | body | time | rate | resident at most, start | idle | at most, streaming |\n"
          "|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    print(f"\nLoad of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.")
    if missed:
        print(f"\nAbove the bar of {BAR_MB} MB: {', '.join(missed)}.")


if __name__ == "__main__":
    main()
