"""How the server reads: a body stays with its sender until somebody asks for it."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class PatientProtocol(HttpToolsProtocol):
    """Whoever waits for a place costs what came with the head of the request, not what a socket can hold."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers):
            self.flow.pause_reading()  # the first `receive` resumes it, and so does an answer without one
