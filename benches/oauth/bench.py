"""Tokens issued and introspected per second, Steward beside Flask with Authlib and npm's oidc-provider, in one run.

Started by run.sh, which has built Steward and installed the peers. All sign ES256 JWTs of one client with a secret, over
connections that are kept alive, on the same cores as the load generator (wrk). The servers take turns, ROUNDS times;
the table has the medians. Prints Markdown.
"""

import base64
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
STEWARD, VENV, NODE_MODULES = (os.environ[name] for name in ("STEWARD", "PEER_VENV", "PEER_NODE_MODULES"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = int(os.environ.get("SECONDS_EACH", "8"))
CONNECTIONS = int(os.environ.get("CONNECTIONS", "16"))
SCOPE = "semantic:read"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_up(url, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{url} did not answer within 60 seconds")


@contextmanager
def running(command, env, url, log):
    process = subprocess.Popen(command, env={**os.environ, **env}, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_up(url, process)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def basic(client_id, secret):
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


def post(url, authorization, form):
    request = urllib.request.Request(url, form.encode(), {
        "Authorization": authorization, "Content-Type": "application/x-www-form-urlencoded"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def load(script, url, authorization, body="", connections=CONNECTIONS, seconds=SECONDS):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / script), url]
    env = {**os.environ, "AUTHORIZATION": authorization, "BODY": body}
    output = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    result = json.loads(next(line for line in output.splitlines() if line.startswith("RESULT "))[7:])
    if result["failed"]:
        sys.exit(f"{result['failed']} of {result['requests']} requests to {url} failed:\n{output}")
    return result


def rate(result):
    return result["requests"] / result["seconds"]


class Steward:
    name = "Steward"

    def __init__(self, folder):
        self.folder, self.port = folder / "steward", free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {"STEWARD__DATA_DIR": str(self.folder), "STEWARD__SERVER__LISTEN": f"127.0.0.1:{self.port}",
                    "RUST_LOG": "warn"}
        made = subprocess.run(
            [STEWARD, "client", "create", "--name", "bench", "--scopes", f"{SCOPE} protected", "--audience", self.url,
             "--json"],
            env={**os.environ, **self.env}, capture_output=True, text=True, check=True)
        client = json.loads(made.stdout)
        self.authorization = basic(client["client_id"], client["client_secret"])

    def server(self, log, _what):
        return running([STEWARD, "serve", "--no-demo"], self.env, self.url + "/health/ready", log)

    token_path, introspection_path = "/oauth/token", "/oauth/introspect"


class Flask:
    name = "Flask + Authlib, gunicorn, 2 workers"

    def __init__(self, folder, key):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        client, secret = "bench", base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
        self.authorization = basic(client, secret)
        self.env = {"PEER_ISSUER": self.url, "PEER_CLIENT_ID": client, "PEER_CLIENT_SECRET": secret, "PEER_KEY": str(key),
                    "AUTHLIB_INSECURE_TRANSPORT": "1"}

    def server(self, log, _what):
        # Threads keep connections alive; gunicorn's plain workers close each one.
        command = [f"{VENV}/bin/gunicorn", "--workers=2", "--worker-class=gthread", "--threads=8", "--keep-alive=60",
                   f"--bind=127.0.0.1:{self.port}", f"--chdir={HERE}", "flask_server:app"]
        return running(command, self.env, self.url + "/health", log)

    token_path, introspection_path = "/oauth/token", "/oauth/introspect"


class OidcProvider:
    name = "oidc-provider"

    def __init__(self, folder, key):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        client, secret = "bench", base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
        self.authorization = basic(client, secret)
        self.env = {"PEER_ISSUER": self.url, "PEER_CLIENT_ID": client, "PEER_CLIENT_SECRET": secret, "PEER_KEY": str(key),
                    "PEER_PORT": str(self.port), "NODE_ENV": "production"}
        # Modules are looked up from the script's own folder upwards.
        self.script = Path(NODE_MODULES).parent / "oidc_provider.mjs"
        self.script.write_text((HERE / "oidc_provider.mjs").read_text())

    def server(self, log, what):
        own = {"PEER_WORKERS": "2", "PEER_FORMAT": "jwt"} if what == "issue" else {"PEER_FORMAT": "opaque"}
        command = ["node", str(self.script)]
        return running(command, {**self.env, **own}, self.url + "/.well-known/openid-configuration", log)

    token_path, introspection_path = "/token", "/token/introspection"


def measure(server, log):
    grant = f"grant_type=client_credentials&scope={SCOPE}"
    found = {}
    with server.server(log, "issue"):
        token = post(server.url + server.token_path, server.authorization, grant)["access_token"]
        assert token.count(".") == 2, f"{server.name} does not issue JWTs"
        load("post.lua", server.url + server.token_path, server.authorization, grant, seconds=2)
        found["issue"] = load("post.lua", server.url + server.token_path, server.authorization, grant)
    with server.server(log, "introspect"):
        token = post(server.url + server.token_path, server.authorization, grant)["access_token"]
        form, url = f"token={token}", server.url + server.introspection_path
        assert post(url, server.authorization, form)["active"] is True, f"{server.name} does not introspect its token"
        load("post.lua", url, server.authorization, form, seconds=2)
        found["introspect"] = load("post.lua", url, server.authorization, form)
    return found


def verification(steward, log):
    """What a verified token adds: the same small answer with and without, one connection, no queue."""
    found = {"public": [], "protected": []}
    with steward.server(log, "verify"):
        token = post(steward.url + "/oauth/token", steward.authorization, "grant_type=client_credentials")["access_token"]
        ways = {"public": "", "protected": f"Bearer {token}"}
        for _ in range(ROUNDS):
            for path, authorization in ways.items():
                url = f"{steward.url}/v1/auth-test/{path}"
                found[path].append(load("get.lua", url, authorization, connections=1, seconds=SECONDS))
    return {path: {key: statistics.median(result[key] for result in results) for key in ("p50_ms", "p99_ms")}
            for path, results in found.items()}


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        key = folder / "key.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key)],
                       check=True, capture_output=True)
        servers = [Steward(folder), Flask(folder, key), OidcProvider(folder, key)]
        results = {server.name: {"issue": [], "introspect": []} for server in servers}
        with open(folder / "servers.log", "w+") as log:
            try:
                for turn in range(ROUNDS):
                    for server in servers:
                        print(f"round {turn + 1} of {ROUNDS}: {server.name}", file=sys.stderr)
                        for what, result in measure(server, log).items():
                            results[server.name][what].append(result)
                verified = verification(servers[0], log)
            except BaseException:
                log.seek(0)
                sys.stderr.write(log.read()[-4000:])
                raise
        median = {name: {what: statistics.median(map(rate, runs)) for what, runs in found.items()}
                  for name, found in results.items()}
        p99 = {name: {what: statistics.median(run["p99_ms"] for run in runs) for what, runs in found.items()}
               for name, found in results.items()}
        ours = median[Steward.name]
        print("| server | tokens/s | ratio | p99 | introspections/s | ratio | p99 |")
        print("|---|---|---|---|---|---|---|")
        for name, found in median.items():
            cells = [name]
            for what in ("issue", "introspect"):
                cells += [f"{found[what]:,.0f}", f"{ours[what] / found[what]:.1f}", f"{p99[name][what]:.1f} ms"]
            print("| " + " | ".join(cells) + " |")
        print()
        print("| one connection | p50 | p99 |")
        print("|---|---|---|")
        for path, found in verified.items():
            print(f"| GET /v1/auth-test/{path} | {found['p50_ms']:.3f} ms | {found['p99_ms']:.3f} ms |")
        added = verified["protected"]["p99_ms"] - verified["public"]["p99_ms"]
        print(f"| added by verifying, scope, audit | | {added:.3f} ms |")


if __name__ == "__main__":
    main()
