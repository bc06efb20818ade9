"""What a server saw, as HTTP: the same report as `recorder.mjs` gives, as an ASGI wrapper that changes nothing.

Every request with the headers that mirror its message, whether its reply ended or was cut off by the caller, and the
listen streams that are open.
"""

import json
import re
from collections import deque

KEPT = 100  # the last requests; scenarios look for their own by a nonce
LONGEST = 4096  # characters of params that are kept
MIRRORED = re.compile(r"^(mcp-|last-event-id$|accept$)")


class Recorder:
    def __init__(self, app):
        self.app = app
        self.posts = 0
        self.requests = deque(maxlen=KEPT)
        self.streams = {}  # number of an open subscriptions/listen -> its filter
        self.eras = {"handshake": 0, "modern": 0}

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] == "/control":
            return await self.app(scope, receive, send)
        body, more = b"", True
        while more:
            part = await receive()
            if part["type"] == "http.disconnect":
                return
            body, more = body + part.get("body", b""), part.get("more_body", False)
        entry = self.note(scope, body)
        pending = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again():
            return pending.pop() if pending else await receive()

        async def watched(part):
            if part["type"] == "http.response.start":
                entry["status"] = part["status"]
            await send(part)
            if part["type"] == "http.response.body" and not part.get("more_body"):
                entry["state"] = "ended"

        try:
            await self.app(scope, receive_again, watched)
        finally:
            if entry["state"] == "open":
                entry["state"] = "cut"
            self.streams.pop(entry["number"], None)

    def note(self, scope, body):
        message = json.loads(body) if body else {}
        params = dict(message.get("params") or {})
        meta = params.pop("_meta", None)
        headers = {name.decode(): value.decode('latin-1') for name, value in scope["headers"]}
        headers = {name: value for name, value in headers.items() if MIRRORED.match(name)}
        self.posts += 1
        self.eras["modern" if headers.get("mcp-protocol-version", "") >= "2026" else "handshake"] += 1
        entry = {
            "number": self.posts,
            "verb": scope["method"],
            "id": message.get("id"),
            "method": message.get("method"),
            "params": params if len(json.dumps(params)) <= LONGEST else {"too": "long"},
            "meta": meta,
            "headers": headers,
            "state": "open",
        }
        self.requests.append(entry)
        if entry["method"] == "subscriptions/listen":
            self.streams[entry["number"]] = params.get("notifications")
        return entry

    def report(self):
        return {
            "posts": self.posts,
            "eras": self.eras,
            "requests": list(self.requests),
            "listening": list(self.streams.values()),
        }
