"""Checks the recipes in fixtures/recipes/: check.py MCP_FERRY_BINARY. The last line printed is `N passed, N failed`.

The flags that nginx.conf's comments name are read out of those comments and used, so the comments cannot go stale.
"""

import contextlib
import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from peers import INITIALIZE, PATIENCE_S, LegacyClient, post, run_checks, upstream

FERRY = str(pathlib.Path(sys.argv[1]).resolve())
TOP = pathlib.Path(__file__).resolve().parents[2]
RECIPES = TOP / "fixtures" / "recipes"
REPLICAS = RECIPES / "replicas"
TOOLS = pathlib.Path(sys.executable).parent
HOST = "mcp.example.com"


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    assert result.returncode == 0, f"{command[0]} ended with {result.returncode}: {result.stdout}{result.stderr}"
    return result.stdout + result.stderr


# --- Compose and Kubernetes ---


def compose_files_are_valid():
    files = [RECIPES / "compose.yaml", REPLICAS / "compose.yaml"]
    run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)


def kubernetes_file_is_valid():
    run(TOOLS / "kubernetes-validate", "--strict", RECIPES / "kubernetes.yaml")


def compose_server_is_the_tested_version():
    pinned = json.loads((TOP / "tests/sdk/package.json").read_text())
    pinned = pinned.get("dependencies", {}) | pinned.get("devDependencies", {})
    name = "@modelcontextprotocol/server-everything"
    for file in [RECIPES / "compose.yaml", REPLICAS / "compose.yaml"]:
        assert f"{name}@{pinned[name]} " in file.read_text(), pinned[name]


def ferry_settings(recipe):
    """The environment that a recipe gives the ferry."""
    documents = list(yaml.safe_load_all((RECIPES / recipe).read_text()))
    if recipe == "compose.yaml":
        return documents[0]["services"]["ferry"]["environment"]
    containers = documents[0]["spec"]["template"]["spec"]["containers"]
    ferry = next(container for container in containers if container["name"] == "ferry")
    return {entry["name"]: entry["value"] for entry in ferry["env"]}


def settings_exist(settings):
    known = set(re.findall(r"MCP_FERRY_[A-Z_]+", run(FERRY, "--help")))
    assert set(settings) <= known, f"unknown: {set(settings) - known}"


def settings_exist_and_are_accepted(recipe):
    settings = ferry_settings(recipe)
    settings_exist(settings)
    with ferry(**settings):
        pass


def compose_settings_are_accepted():
    settings_exist_and_are_accepted("compose.yaml")


def kubernetes_settings_are_accepted():
    settings_exist_and_are_accepted("kubernetes.yaml")


# --- nginx ---


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stop(process, sign=signal.SIGTERM):
    if process.poll() is None:
        process.send_signal(sign)
    try:
        return process.wait(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def until_listening(process, port):
    """Waits until the program takes connections on its port."""
    name = process.args[0]
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
            return
        assert process.poll() is None, f"{name} ended: {process.communicate()}"
        assert time.monotonic() < deadline, f"{name} does not listen"
        time.sleep(0.02)


@contextlib.contextmanager
def ferry(*arguments, **env):
    """The binary on a free port; yields the port it logs."""
    with tempfile.TemporaryFile("w+") as log:
        command = [FERRY, "--listen", "127.0.0.1:0", *arguments]
        process = subprocess.Popen(command, env={**os.environ, **env}, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while True:
                log.seek(0)
                text = log.read()
                if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", text):
                    break
                assert process.poll() is None, f"ended with {process.returncode}: {text}"
                assert time.monotonic() < deadline, f"not listening: {text}"
                time.sleep(0.02)
            yield int(found[1])
        finally:
            status = stop(process)
            log.seek(0)
        assert status == 0, f"exit code {status}: {log.read()}"


@contextlib.contextmanager
def nginx(*exchanged, recipe=RECIPES / "nginx.conf", listens="listen 80;"):
    """nginx with a recipe, its addresses exchanged for others, each `(old, new)`; yields its port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        path = pathlib.Path(name)
        path.chmod(0o755)
        text = recipe.read_text()
        for old, new in [*exchanged, (listens, f"listen 127.0.0.1:{port};")]:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        main_file = wrap(path, text)
        process = subprocess.Popen(["nginx", "-c", main_file, "-g", "daemon off;"], stderr=subprocess.PIPE)
        try:
            until_listening(process, port)
            yield port
        finally:
            stop(process)
            process.stderr.close()


def wrap(path, recipe):
    """The recipe is one file of conf.d/; this is the main file around it."""
    (path / "recipe.conf").write_text(recipe)
    (path / "nginx.conf").write_text(
        f"pid {path}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;\n"
        f"include {path}/recipe.conf; }}\n"
    )
    return str(path / "nginx.conf")


def nginx_file_is_valid():
    with tempfile.TemporaryDirectory() as name:
        main_file = wrap(pathlib.Path(name), (RECIPES / "nginx.conf").read_text())
        output = run("nginx", "-t", "-c", main_file)
        assert "test is successful" in output and "[warn]" not in output, output


def flags_for(location):
    """The flags in the comment above a location, without the upstream."""
    text = (RECIPES / "nginx.conf").read_text()
    above = text[: text.index(f"location {location} {{")]
    command = re.findall(r"# +mcp-ferry --upstream URL (.*)", above)[-1]
    return shlex.split(command)


def serves_under(prefix, flags):
    at = lambda port: ("server 127.0.0.1:8080;", f"server 127.0.0.1:{port};")
    with upstream() as url, ferry("--upstream", url, *flags) as port, nginx(at(port)) as front:
        client = LegacyClient(front, f"{prefix}/sse", HOST)
        try:
            path = client.endpoint.split("?")[0]
            assert path == f"{prefix}/messages", client.endpoint
            assert client.initialize()["result"]["serverInfo"]["name"] == "smallest-upstream"
        finally:
            client.close()
        status, body = post(front, f"{prefix}/mcp", INITIALIZE, {"Host": HOST})
        assert status == 200 and json.loads(body)["id"] == 1, (status, body)
        status, body = post(front, f"{prefix}/mcp", INITIALIZE, {"Host": "elsewhere.example"})
        assert 400 <= status < 500, f"a foreign Host was served: {status}"


def nginx_keeping_the_prefix():
    serves_under("/kept", flags_for("/kept/"))


def nginx_cutting_the_prefix():
    serves_under("/cut", flags_for("/cut/"))


def nginx_cutting_the_prefix_without_trust():
    """The alternative that the comment names: a fixed prefix instead of the header."""
    flags = flags_for("/cut/")
    at = flags.index("--trusted-proxy")
    flags[at : at + 2] = ["--public-prefix", "/cut"]
    serves_under("/cut", flags)


# --- several replicas ---


@contextlib.contextmanager
def redis():
    port = free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until_listening(process, port)
        yield port
    finally:
        stop(process)


def replicas_serve_as_composed():
    """The settings of compose.yaml and nginx.conf, on one machine: each POST goes to the next replica."""
    composed = yaml.safe_load((REPLICAS / "compose.yaml").read_text())
    services = composed["services"]
    settings = services["ferry-1"]["environment"]
    assert settings == services["ferry-2"]["environment"]
    settings_exist(settings)
    assert urllib.parse.urlsplit(settings["MCP_FERRY_STORE"]).hostname in services
    assert urllib.parse.urlsplit(settings["MCP_FERRY_UPSTREAM"]).hostname in services
    [secret] = composed["secrets"]
    assert settings["MCP_FERRY_KEY_FILE"] == f"/run/secrets/{secret}"
    assert f"./{secret}" == composed["secrets"][secret]["file"]
    with contextlib.ExitStack() as stack:
        key = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())) / secret
        key.write_text(run("openssl", "rand", "-base64", "32"))
        key.chmod(0o400)
        store = f"redis://127.0.0.1:{stack.enter_context(redis())}"
        own = {"MCP_FERRY_STORE": store, "MCP_FERRY_KEY_FILE": str(key)}
        own["MCP_FERRY_UPSTREAM"] = stack.enter_context(upstream())
        ports = [stack.enter_context(ferry(**{**settings, **own})) for _ in range(2)]
        places = [(f"server ferry-{n}:8080;", f"server 127.0.0.1:{port};") for n, port in enumerate(ports, 1)]
        recipe = REPLICAS / "nginx.conf"
        front = stack.enter_context(nginx(*places, recipe=recipe, listens="listen 8080;"))
        client = LegacyClient(front, "/sse", "localhost")
        try:
            assert client.initialize()["result"]["serverInfo"]["name"] == "smallest-upstream"
            for number in range(10, 20):
                ping = {"jsonrpc": "2.0", "id": number, "method": "ping"}
                status, body = post(front, client.endpoint, ping, client.headers)
                assert status == 202, (status, body)
                assert json.loads(client.event("message"))["id"] == number
        finally:
            client.close()


if __name__ == "__main__":
    sys.exit(
        run_checks(
            [
                compose_files_are_valid,
                compose_server_is_the_tested_version,
                compose_settings_are_accepted,
                kubernetes_file_is_valid,
                kubernetes_settings_are_accepted,
                nginx_file_is_valid,
                nginx_keeping_the_prefix,
                nginx_cutting_the_prefix,
                nginx_cutting_the_prefix_without_trust,
                replicas_serve_as_composed,
            ]
        )
    )
