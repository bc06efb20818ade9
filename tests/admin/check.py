"""Reads /metrics of a running demo with the OpenMetrics parser of prometheus-client. See tests/admin.sh."""

import json
import re
import subprocess
import sys
import threading
import urllib.request

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


def main():
    demo, page = start(sys.argv[1])
    base, token = page.split("#token=")
    passed = failed = 0
    try:
        for check in (parses, histograms_are_whole, what_the_demo_did_is_counted, counters_only_grow, the_printed_token_opens):
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
