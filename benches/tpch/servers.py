"""Servers that are asked SQL over HTTP: Steward and roapi, over the same Parquet files."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
TABLES = ["region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"]
ARROW = "application/vnd.apache.arrow.stream"

# Ends as an interrupt does, so that no server outlives the bench.
signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(url, process, ready):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with status {process.returncode}; what it said is above")
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if ready(answer.read()):
                    return
        except urllib.error.HTTPError:
            pass
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit(f"{url} was not ready within 120 seconds")


@contextmanager
def running(command, env, url, ready):
    process = subprocess.Popen(command, env={**os.environ, **env}, stdout=sys.stderr, start_new_session=True)
    try:
        wait_until(url, process, ready)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Server:
    """Asked over one connection that is kept alive."""

    def connect(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3_600)

    def ask(self, sql, accept=ARROW):
        """An answer whose body is still to be read."""
        path, headers, body = self.request(sql)
        self.connection.request("POST", path, body, {"Accept": accept, **headers})
        answer = self.connection.getresponse()
        if answer.status != 200:
            sys.exit(f"{self.name} answered {answer.status}: {answer.read().decode()}")
        return answer


class Steward(Server):
    name = "Steward"

    def __init__(self, binary, data, folder, limits):
        self.binary, self.port, folder = binary, free_port(), Path(folder)
        self.url = f"http://127.0.0.1:{self.port}"
        self.semantic = folder / "semantic"
        self.semantic.mkdir(parents=True)
        (self.semantic / "tpch.yaml").write_text((HERE / "model.yaml").read_text())
        # JSON is YAML.
        self.config = folder / "steward.yaml"
        self.config.write_text(json.dumps({
            "data_dir": str(folder / "data"), "server": {"listen": f"127.0.0.1:{self.port}"},
            "semantic": {"dir": str(self.semantic), "watch": False}, "actions": {"dir": str(folder / "actions")},
            "indexes": {"dir": str(folder / "indexes")}, "sql": limits,
            "warehouses": {"local": {"kind": "local", "path": str(data)}}}))
        self.env = {"RUST_LOG": "warn"}
        made = subprocess.run(
            [binary, "--config", self.config, "client", "create", "--name", "bench", "--scopes", "semantic:read sql:run",
             "--json"], env={**os.environ, **self.env}, stdout=subprocess.PIPE, text=True, check=True)
        self.client = json.loads(made.stdout)

    def server(self):
        return running([self.binary, "--config", self.config, "serve", "--no-demo"], self.env,
                       self.url + "/health/ready", lambda body: json.loads(body).get("embedding_model") == "ready")

    def connect(self):
        super().connect()
        client = f"{self.client['client_id']}:{self.client['client_secret']}"
        request = urllib.request.Request(self.url + "/oauth/token", b"grant_type=client_credentials", {
            "Authorization": "Basic " + base64.b64encode(client.encode()).decode()})
        with urllib.request.urlopen(request, timeout=10) as answer:
            self.token = json.load(answer)["access_token"]

    def request(self, sql):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        return "/v1/sql/run", headers, json.dumps({"sql": sql})


class Roapi(Server):
    name = "roapi"

    def __init__(self, binary, data, folder):
        self.binary, self.port, folder = binary, free_port(), Path(folder)
        folder.mkdir(parents=True)
        self.config = folder / "roapi.yaml"
        # Without use_memory_table it would hold all rows in memory, and not read the files.
        self.config.write_text(json.dumps({
            "addr": {"http": f"127.0.0.1:{self.port}", "postgres": f"127.0.0.1:{free_port()}"},
            "tables": [{"name": table, "uri": str(Path(data, "tpch", f"{table}.parquet")),
                        "option": {"format": "parquet", "use_memory_table": False}} for table in TABLES]}))

    def server(self):
        command = [self.binary, "--config", self.config, "--addr-flight-sql", f"127.0.0.1:{free_port()}"]
        return running(command, {"RUST_LOG": "warn"}, f"http://127.0.0.1:{self.port}/health", lambda _: True)

    def request(self, sql):
        return "/api/sql", {"Content-Type": "text/plain"}, sql
