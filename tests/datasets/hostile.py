"""Sources of files that mean no good: what they answer, byte for byte."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

#: From the start that is asked for and the whole content, to what is sent and seconds of waiting.
Script = Callable[[int, bytes], Iterator[bytes | float]]


def answer(status: str, body: bytes = b"", **headers: object) -> bytes:
    """The bytes of an answer over HTTP."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return f"HTTP/1.1 {status}\r\n{''.join(lines)}\r\n".encode("latin-1") + body


def truncates_then_416(start: int, content: bytes) -> Iterator[bytes]:
    if start:
        yield answer("416 Range Not Satisfiable", Content_Length=0)
    else:
        yield answer("200 OK", content[: len(content) // 3], Content_Length=len(content))


def truncates_then_another_range(start: int, content: bytes) -> Iterator[bytes]:
    if start:
        yield answer(
            "206 Partial Content", content[:5], Content_Range="bytes 7-11/12", Content_Length=5
        )
    else:
        yield answer("200 OK", content[: len(content) // 3], Content_Length=len(content))


def one_byte_for_each_request(start: int, content: bytes) -> Iterator[bytes]:
    total = len(content)
    place = f"bytes {start}-{total - 1}/{total}"
    status = "206 Partial Content" if start else "200 OK"
    yield answer(
        status, content[start : start + 1], Content_Range=place, Content_Length=total - start
    )


def part_nobody_asked_for(start: int, content: bytes) -> Iterator[bytes]:
    yield answer("206 Partial Content", content[9:], Content_Range="bytes 9-")


def length_abc(start: int, content: bytes) -> Iterator[bytes]:
    yield answer("200 OK", content, Content_Length="abc")


def length_of_a_novel(start: int, content: bytes) -> Iterator[bytes]:
    yield answer("200 OK", content, Content_Length="9" * 5000)


def negative_length(start: int, content: bytes) -> Iterator[bytes]:
    yield answer("200 OK", content, Content_Length=-1)


def redirects_to_half_an_address(start: int, content: bytes) -> Iterator[bytes]:
    yield answer("302 Found", Location="http://[::/", Content_Length=0)


def redirects_to_a_long_label(start: int, content: bytes) -> Iterator[bytes]:
    yield answer("302 Found", Location=f"http://{'a' * 99}é.example/", Content_Length=0)


def redirects_to_a_control_character(start: int, content: bytes) -> Iterator[bytes]:
    yield answer("302 Found", Location="http://127.0.0.1/\x7f\x1b", Content_Length=0)


def redirects_to_itself(start: int, content: bytes) -> Iterator[bytes]:
    yield answer("302 Found", Location="/again", Content_Length=0)


def paints_the_terminal(start: int, content: bytes) -> Iterator[bytes]:
    yield answer("404 \x1b[2J\x1b]0;mine\x07\x9b31m", Content_Length=0)


def tells_a_novel(start: int, content: bytes) -> Iterator[bytes]:
    yield answer(f"404 {'word ' * 9000}", Content_Length=0)


def speaks_another_language(start: int, content: bytes) -> Iterator[bytes]:
    yield b"\x16\x03\x01\x1b[31m\r\n\r\n"


def says_nothing(start: int, content: bytes) -> Iterator[bytes]:
    yield b""


def drips(start: int, content: bytes) -> Iterator[bytes | float]:
    yield answer("200 OK", Content_Length=len(content))
    for byte in content:
        yield bytes([byte])
        yield 0.01


def drips_its_headers(start: int, content: bytes) -> Iterator[bytes | float]:
    yield b"HTTP/1.1 200 OK\r\nX-Long: "
    while True:
        yield b"x"
        yield 0.01


def broken_chunks(start: int, content: bytes) -> Iterator[bytes]:
    yield answer("200 OK", b"zz\r\n" + content, Transfer_Encoding="chunked")


SCRIPTS: dict[str, Script] = {
    script.__name__: script
    for script in (
        truncates_then_416,
        truncates_then_another_range,
        one_byte_for_each_request,
        part_nobody_asked_for,
        length_abc,
        length_of_a_novel,
        negative_length,
        redirects_to_half_an_address,
        redirects_to_a_long_label,
        redirects_to_a_control_character,
        redirects_to_itself,
        paints_the_terminal,
        tells_a_novel,
        speaks_another_language,
        says_nothing,
        drips,
        drips_its_headers,
        broken_chunks,
    )
}


class Hostile(socketserver.ThreadingTCPServer):
    """A source on this machine that follows a script, and counts what it was asked."""

    daemon_threads, allow_reuse_address, request_queue_size = True, True, 64

    def __init__(self, script: Script, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.content, self.asked = script, content, 0
        self.address = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class _Handler(socketserver.BaseRequestHandler):
    server: Hostile

    def handle(self) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            more = self.request.recv(4096)
            if not more:
                return
            request += more
        self.server.asked += 1
        wanted = request.lower().partition(b"range: bytes=")[2]
        start = int(wanted.partition(b"-")[0]) if wanted else 0
        for item in self.server.script(start, self.server.content):
            if isinstance(item, float):
                time.sleep(item)
            else:
                self.request.sendall(item)
        with contextlib.suppress(OSError):
            self.request.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def hostile(script: Script, content: bytes) -> Iterator[Hostile]:
    """A source that follows a script, as long as the context lasts."""
    with Hostile(script, content) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
