"""The two ends of the vanishing test, each a process in a network namespace: `peer.py upstream` and `peer.py client`.

They say on stdout what happens to them, a line each, because no socket between them and the test survives what it does.
"""

import http.client
import http.server
import json
import os
import sys
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from peers import INITIALIZE, Upstream  # noqa: E402


def say(*words):
    # One write, because several threads speak.
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Sessions(Upstream):
    """Sessions that are told of when they begin and end; the tool `never` never answers, any other at once."""

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "id" not in message:
            say(message["method"])
            return self.reply(202, b"")
        if message["method"] == "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "v", "version": "1"}}
            self.session = str(uuid.uuid4())
            say("session-begins", self.session)
        else:
            say("call", message["params"]["name"])
            if message["params"]["name"] == "never":
                time.sleep(600)
            result = {"content": []}
        self.reply(200, json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode())

    def end_headers(self):
        if getattr(self, "session", None):
            self.send_header("Mcp-Session-Id", self.session)
            self.session = None
        super().end_headers()

    def do_DELETE(self):
        say("session-ends", self.headers["Mcp-Session-Id"])
        self.reply(200, b"")


def upstream(address, port):
    server = http.server.ThreadingHTTPServer((address, int(port)), Sessions)
    server.daemon_threads = True
    say("listening")
    server.serve_forever()


def post(address, port, path, message):
    connection = http.client.HTTPConnection(address, port, timeout=60)
    connection.request("POST", path, json.dumps(message), {"Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


def client(address, port, tool):
    connection = http.client.HTTPConnection(address, int(port), timeout=300)
    connection.request("GET", "/sse", headers={"Accept": "text/event-stream"})
    stream = connection.getresponse()

    def events():
        while line := stream.readline().decode():
            if line.startswith("data: "):
                yield line[6:].strip()

    heard = events()
    endpoint = next(heard)
    post(address, int(port), endpoint, INITIALIZE)
    next(heard)
    post(address, int(port), endpoint, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    say("ready")
    calls = iter([tool, "afterwards"])

    def call(number):
        name = next(calls)
        message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": name, "arguments": {}}}
        say("posted", post(address, int(port), endpoint, message))

    if tool != "none":
        call(2)
    # Afterwards another, when it is told to.
    threading.Thread(target=lambda: [call(3) for _ in sys.stdin], daemon=True).start()
    for data in heard:
        say("message", data)
    say("stream-ended")


{"upstream": upstream, "client": client}[sys.argv[1]](*sys.argv[2:])
