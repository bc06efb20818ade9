"""Reads /metrics of a running demo with the OpenMetrics parser of prometheus-client, and has what crosses written to a disk
that is full. See tests/admin.sh."""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from prometheus_client.openmetrics import parser

TIME = 60


def start(binary):
    """The demo, which makes a little traffic by itself, and the address of its page."""
    command = [binary, "demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    # Whatever happens, it does not outlive its time.
    timer = threading.Timer(TIME, demo.kill)
    timer.daemon = True
    timer.start()
    page, said = None, []
    for line in demo.stdout:
        said.append(line)
        found = re.search(r"http://[0-9.:]+/#token=\S+", line)
        page = found.group(0) if found else page
        if "The script" in line:
            break
    assert page, "".join(said)
    # What follows is not of interest, but must not fill the pipe.
    threading.Thread(target=demo.stdout.read, daemon=True).start()
    return demo, page


def ask(url, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def families(base):
    kind, text = ask(base + "metrics")
    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8", kind
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


def parses(base, _):
    found = families(base)
    assert len(found) > 40, sorted(found)
    for name, family in found.items():
        assert family.documentation.endswith("."), name
        assert name.startswith("mcp_ferry_") or name == "process_start_time_seconds", name
        assert not family.unit or name.endswith("_" + family.unit), name


def histograms_are_whole(base, _):
    found = families(base)
    seen = 0
    for family in found.values():
        if family.type != "histogram":
            continue
        counts = {s.labels.get("method", ""): s.value for s in family.samples if s.name.endswith("_count")}
        tops = {s.labels.get("method", ""): s.value for s in family.samples if s.labels.get("le") == "+Inf"}
        assert counts == tops, family.name
        seen += len(counts)
    assert seen >= 3, "the demo made requests"


def what_the_demo_did_is_counted(base, _):
    requests = families(base)["mcp_ferry_requests"]
    done = {(s.labels["method"], s.labels["outcome"]): s.value for s in requests.samples}
    assert done["initialize", "result"] == 1, done
    assert done["tools_call", "result"] >= 1, done


def counters_only_grow(base, _):
    def counters():
        return {
            (s.name, tuple(sorted(s.labels.items()))): s.value
            for family in families(base).values()
            if family.type == "counter"
            for s in family.samples
        }

    before = counters()
    after = counters()
    assert before.keys() == after.keys()
    assert all(after[key] >= before[key] for key in before)


def the_printed_token_opens(base, token):
    _, text = ask(base + "api/state", token)
    assert json.loads(text)["upstream"].startswith("http://127.0.0.1:")


class Ferry:
    """A ferry that writes what crosses to a file, on a disk of this size, before the demo's server."""

    def __init__(self, upstream, size):
        self.directory = tempfile.TemporaryDirectory()
        self.file = Path(self.directory.name) / "tap.jsonl"
        # A mount of the process's own: it goes with the process. What is in it is read through /proc.
        mount = f"mount -t tmpfs -o size={size} none {self.directory.name} && exec \"$@\""
        command = [sys.argv[1], "--upstream", upstream, "--listen", "127.0.0.1:0", "--tap-file", str(self.file)]
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", mount, "sh", *command], stderr=subprocess.PIPE, text=True
        )
        self.said = []
        threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True).start()
        self.url = self.wait(r"listening on (http://[0-9.:]+)") + "/mcp"

    def wait(self, pattern):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = re.search(pattern, "".join(self.said))
            if found:
                return found.group(1)
            time.sleep(0.05)
        raise AssertionError(f"nothing said {pattern}: {''.join(self.said)}")

    def records(self):
        # Half a line is there for a moment, until it is taken back.
        for _ in range(100):
            text = Path(f"/proc/{self.process.pid}/root{self.file}").read_text()
            if text.endswith("\n"):
                break
            time.sleep(0.05)
        return [json.loads(line) for line in text.splitlines()]

    def end(self):
        self.process.kill()
        self.process.wait()
        self.directory.cleanup()


def post(url, padding, number):
    """The status of a ping with so much padding, and of how many bytes it was."""
    message = {"jsonrpc": "2.0", "id": number, "method": "ping", "params": {"padding": "x" * padding}}
    body = json.dumps(message).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    request = urllib.request.Request(url, data=body, headers=headers | {"MCP-Protocol-Version": "2025-06-18"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, len(body)
    except urllib.error.HTTPError as error:
        return error.code, len(body)


def a_full_disk_is_told_and_traffic_goes_on(base, _):
    ferry = Ferry(upstream_of(base), "64k")
    try:
        direct, _ = post(upstream_of(base), 20_000, 0)
        statuses = {post(ferry.url, 20_000, number)[0] for number in range(20)}
        assert statuses == {direct}, (statuses, direct)
        lost = ferry.wait(r"lost=(\d+).*(?:No space left|cannot be written)")
        assert int(lost) > 0
        records = ferry.records()
        assert 0 < len(records) < 60, len(records)
    finally:
        ferry.end()


def a_message_of_16_mib_is_noted_with_its_size_and_its_beginning(base, _):
    ferry = Ferry(upstream_of(base), "64m")
    try:
        status, size = post(ferry.url, 16 * 1024 * 1024, 1)
        assert status == post(upstream_of(base), 16 * 1024 * 1024, 1)[0], status
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            big = [it for it in ferry.records() if it.get("size") == size]
            if big:
                break
            time.sleep(0.1)
        assert big and big[0]["cut"] and 0 < len(big[0]["text"]) < size, big[:1]
    finally:
        ferry.end()


def upstream_of(base):
    """The server that the demo began."""
    _, text = ask(base + "api/state", TOKEN[0])
    return json.loads(text)["upstream"]


CHECKS = (
    parses,
    histograms_are_whole,
    what_the_demo_did_is_counted,
    counters_only_grow,
    the_printed_token_opens,
    a_full_disk_is_told_and_traffic_goes_on,
    a_message_of_16_mib_is_noted_with_its_size_and_its_beginning,
)
TOKEN = []


def main():
    demo, page = start(sys.argv[1])
    base, token = page.split("#token=")
    TOKEN.append(token)
    passed = failed = 0
    try:
        for check in CHECKS:
            try:
                check(base, token)
                passed += 1
                print("ok  ", check.__name__)
            except Exception as error:
                failed += 1
                print("FAIL", check.__name__, repr(error))
    finally:
        demo.kill()
        demo.wait()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


sys.exit(main())
