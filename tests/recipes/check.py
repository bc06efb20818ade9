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

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from peers import INITIALIZE, PATIENCE_S, LegacyClient, post, run_checks, upstream

FERRY = str(pathlib.Path(sys.argv[1]).resolve())
TOP = pathlib.Path(__file__).resolve().parents[2]
RECIPES = TOP / "fixtures" / "recipes"
TOOLS = pathlib.Path(sys.executable).parent
HOST = "mcp.example.com"


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    assert result.returncode == 0, f"{command[0]} ended with {result.returncode}: {result.stdout}{result.stderr}"
    return result.stdout + result.stderr


# --- Compose and Kubernetes ---


def compose_file_is_valid():
    run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", RECIPES / "compose.yaml")


def kubernetes_file_is_valid():
    run(TOOLS / "kubernetes-validate", "--strict", RECIPES / "kubernetes.yaml")


def compose_server_is_the_tested_version():
    pinned = json.loads((TOP / "tests/sdk/package.json").read_text())
    pinned = pinned.get("dependencies", {}) | pinned.get("devDependencies", {})
    name = "@modelcontextprotocol/server-everything"
    assert f"{name}@{pinned[name]} " in (RECIPES / "compose.yaml").read_text(), pinned[name]


def ferry_settings(recipe):
    """The environment that a recipe gives the ferry."""
    documents = list(yaml.safe_load_all((RECIPES / recipe).read_text()))
    if recipe == "compose.yaml":
        return documents[0]["services"]["ferry"]["environment"]
    containers = documents[0]["spec"]["template"]["spec"]["containers"]
    ferry = next(container for container in containers if container["name"] == "ferry")
    return {entry["name"]: entry["value"] for entry in ferry["env"]}


def settings_exist_and_are_accepted(recipe):
    settings = ferry_settings(recipe)
    known = set(re.findall(r"MCP_FERRY_[A-Z_]+", run(FERRY, "--help")))
    assert set(settings) <= known, f"unknown: {set(settings) - known}"
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
def nginx(ferry_port):
    """nginx with the recipe, its two addresses exchanged for free ones; yields its port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        path = pathlib.Path(name)
        path.chmod(0o755)
        text = (RECIPES / "nginx.conf").read_text()
        for old, new in [
            ("server 127.0.0.1:8080;", f"server 127.0.0.1:{ferry_port};"),
            ("listen 80;", f"listen 127.0.0.1:{port};"),
        ]:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        main_file = wrap(path, text)
        process = subprocess.Popen(["nginx", "-c", main_file, "-g", "daemon off;"], stderr=subprocess.PIPE)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
                    break
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline, "nginx does not listen"
                time.sleep(0.02)
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
    with upstream() as url, ferry("--upstream", url, *flags) as port, nginx(port) as front:
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


if __name__ == "__main__":
    sys.exit(
        run_checks(
            [
                compose_file_is_valid,
                compose_server_is_the_tested_version,
                compose_settings_are_accepted,
                kubernetes_file_is_valid,
                kubernetes_settings_are_accepted,
                nginx_file_is_valid,
                nginx_keeping_the_prefix,
                nginx_cutting_the_prefix,
                nginx_cutting_the_prefix_without_trust,
            ]
        )
    )
