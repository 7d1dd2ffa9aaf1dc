"""A web server in a thread of the test, that says what it is told to say."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading


@contextlib.contextmanager
def web(answer):
    """`answer(method, path, body)` gives status and bytes; the address."""

    class Saying(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self._say("GET", None)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._say("POST", json.loads(body))

        def _say(self, method, body):
            status, data = answer(method, self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Saying) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            serving.join(20)


def events(*values) -> bytes:
    """A whole stream of server-sent events."""
    lines = [f"data: {json.dumps(value)}\n\n" for value in values]
    return "".join((*lines, "data: [DONE]\n\n")).encode()


def refusal(message: str, kind: str = "invalid_request_error", code: str = "x") -> bytes:
    """An error in OpenAI's form."""
    return json.dumps({"error": {"message": message, "type": kind, "code": code}}).encode()
