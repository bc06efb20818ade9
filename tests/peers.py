"""What the script tests share: the smallest upstream, a legacy client by hand, and a runner for named checks.

Standard library only, so that it runs before anything is installed. Tests with real clients and servers are in sdk/.
"""

import contextlib
import http.client
import http.server
import json
import ssl
import threading

PATIENCE_S = 15  # for any one answer; a check that waits longer has failed
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2024-11-05",
        "capabilities": {},
        "clientInfo": {"name": "script", "version": "1"},
    },
}


class Upstream(http.server.BaseHTTPRequestHandler):
    """The smallest Streamable HTTP server: no session, no listen stream, JSON answers."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "id" not in message:
            return self.reply(202, b"")
        result = {}
        if message["method"] == "initialize":
            result = {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "serverInfo": {"name": "smallest-upstream", "version": "1"},
            }
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        self.reply(200, json.dumps(answer).encode())

    def do_GET(self):
        self.reply(405, b"")

    do_DELETE = do_GET

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def upstream(certificate=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.daemon_threads = True
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*certificate)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}/mcp"
    finally:
        server.shutdown()
        server.server_close()


def post(port, path, message, headers=()):
    """Posts a JSON-RPC message; the status and the body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    accept = "application/json, text/event-stream"
    try:
        connection.request(
            "POST", path, json.dumps(message), {"Content-Type": "application/json", "Accept": accept, **dict(headers)}
        )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class LegacyClient:
    """An HTTP+SSE client by hand: opens the stream, posts `initialize`, waits for its answer."""

    def __init__(self, port, path="/sse", host=None):
        self.port = port
        self.headers = {"Host": host} if host else {}
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self.connection.request("GET", path, headers={"Accept": "text/event-stream", **self.headers})
        self.stream = self.connection.getresponse()
        assert self.stream.status == 200, f"GET {path}: {self.stream.status} {self.stream.read(500)}"
        self.endpoint = self.event("endpoint")

    def event(self, wanted):
        name = None
        while line := self.stream.readline().decode():
            if line.startswith("event: "):
                name = line[7:].strip()
            elif line.startswith("data: "):
                assert name == wanted, f"event {name} instead of {wanted}"
                return line[6:].strip()
        raise AssertionError("the stream ended")

    def initialize(self):
        status, body = post(self.port, self.endpoint, INITIALIZE, self.headers)
        assert status == 202, f"POST {self.endpoint}: {status} {body}"
        answer = json.loads(self.event("message"))
        assert answer["id"] == 1, answer
        return answer

    def close(self):
        self.connection.close()


def run_checks(checks):
    """Runs every check, prints one line each and the closing line; the exit code."""
    failed = 0
    for check in checks:
        try:
            check()
            print(f"ok    {check.__name__}", flush=True)
        except Exception as error:  # one broken check must not hide the others
            failed += 1
            print(f"FAIL  {check.__name__}: {type(error).__name__}: {error}", flush=True)
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0
