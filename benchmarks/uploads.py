"""A thousand uploads at once: `make bench-uploads`, or `python -m benchmarks.uploads --rounds 6`.

1 000 clients send 1 MiB each and 32 clients 64 MiB each, all at the same moment: through the API, directly (begin, PUT
to S3, complete), and, as the measure of both, the same bytes put straight to the same S3 server by the same generator.
The three run in turns, forward then backward, so that a busy machine slows them all; a ratio is formed in each round.
Shown are its median and extremes: `ratio` until every client has his 201, `bytes there` until storage has taken the
last byte (a direct upload is then read once more and looked at). What was uploaded is then downloaded by as many at
once, through the API and, as its measure, by signed links from S3. Servers, API (one process) and generator share this
machine. Memory is the peak resident size of the API in each measurement. Every answer must be 201 (S3: 200); anything
else, and every broken connection, is an error.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import uvloop
from botocore.config import Config

from benchmarks.stack import Api, spread, surroundings
from core.local.stack import Embedded, LocalServers, start_servers

MIB = 2**20
PIECE_BYTES = MIB // 4
BOUNDARY = "a-boundary-that-is-in-no-file"
SCENARIOS = {"1000 x 1 MiB": (1000, MIB), "32 x 64 MiB": (32, 64 * MIB)}
SETTINGS = {"MAX_UPLOAD_BYTES": str(128 * MIB), "RATE_LIMIT_PER_MINUTE": "1000000000", "LOG_LEVEL": "warning"}
ACCOUNT = {"email": "bench@example.com", "password": "correct horse battery"}


@dataclass(frozen=True)
class Measured:
    """MiB a second, until all is done and until all bytes are there; seconds of each client; errors; peak in MiB."""

    rate: float
    arriving: float
    seconds: list[float]
    errors: list[str]
    peak: float


class SignedIn(Api):
    """The API, and a person who may use it."""

    def __init__(self, servers: LocalServers, data_dir: Path) -> None:
        super().__init__(servers, data_dir, **SETTINGS)
        self._post("/auth/register", ACCOUNT)
        self.auth: dict[str, str] = {}

    def sign_in(self) -> None:
        self.auth = {"Authorization": f"Bearer {self._post('/auth/login', ACCOUNT)['access_token']}"}

    def _post(self, path: str, body: dict[str, str]) -> Any:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.base + path, json.dumps(body).encode(), headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)


class Generator:
    """Sends one file in each of the three ways; as little client as possible, the same for all."""

    def __init__(self, api: SignedIn, servers: LocalServers, size: int) -> None:
        self.api, self.bucket = api, servers.s3_bucket
        self.s3 = boto3.session.Session().client(
            "s3", endpoint_url=servers.s3_endpoint_url, region_name=servers.s3_region,
            aws_access_key_id=servers.s3_access_key, aws_secret_access_key=servers.s3_secret_key,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )  # fmt: skip
        head, tail = b"%PDF-1.7\n", b"\nstartxref\n0\n%%EOF\n"
        self.content = memoryview(head + os.urandom(size - len(head) - len(tail)) + tail)
        self.raw_urls: list[str] = []
        self.documents: list[str] = []
        self.arrived_at = 0.0

    def prepare(self, count: int) -> None:
        """Signs what the raw way needs; that is no part of its time."""
        places = [{"Bucket": self.bucket, "Key": f"raw/{number}"} for number in range(count)]
        self.raw_urls = [self.s3.generate_presigned_url("put_object", Params=place) for place in places]

    async def raw(self, number: int) -> None:
        await _call("PUT", self.raw_urls[number], {}, self.content)
        self.arrived_at = time.perf_counter()

    async def through_api(self, _: int) -> None:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n'
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        body = (memoryview(head.encode()), self.content, memoryview(f"\r\n--{BOUNDARY}--\r\n".encode()))
        answer = await _call("POST", f"{self.api.base}/documents/upload", self.api.auth | kind, *body)
        self.arrived_at = time.perf_counter()
        self.documents.append(json.loads(answer)["document_id"])

    async def direct(self, _: int) -> None:
        wanted = {"filename": "a.pdf", "size": len(self.content), "content_type": "application/pdf"}
        where = f"{self.api.base}/documents/uploads"
        upload = await self._json(where, wanted)
        if upload["parts"] is None:
            await _call("PUT", upload["url"], {"Content-Type": "application/pdf"}, self.content)
        for part in upload["parts"] or ():
            start = (part["part_number"] - 1) * upload["part_size"]
            await _call("PUT", part["url"], {}, self.content[start : start + upload["part_size"]])
        self.arrived_at = time.perf_counter()
        await self._json(f"{where}/{upload['upload_id']}/complete", {})

    async def download(self, number: int) -> None:
        await self._receive(f"{self.api.base}/documents/{self.documents[number]}/content", self.api.auth)

    async def download_raw(self, number: int) -> None:
        path = f"{self.api.base}/documents/{self.documents[number]}/content-url"
        await self._receive(json.loads(await _call("GET", path, self.api.auth))["url"], {})

    async def _receive(self, url: str, headers: dict[str, str]) -> None:
        place = urlsplit(url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            told = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = f"GET {place.path}?{place.query} HTTP/1.1\r\nHost: {place.netloc}\r\n{told}Connection: close\r\n\r\n"
            writer.write(head.encode())
            await reader.readuntil(b"\r\n\r\n")
            left = len(self.content)
            while piece := await reader.read(PIECE_BYTES):
                left -= len(piece)
        finally:
            writer.close()
        if left:
            raise OSError(f"{left} bytes are missing")
        self.arrived_at = time.perf_counter()

    def clean(self) -> None:
        self.documents.clear()
        for prefix in ("raw/", "_dossier/"):
            for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    self.s3.delete_object(Bucket=self.bucket, Key=item["Key"])

    async def _json(self, url: str, body: dict[str, object]) -> Any:
        kind = {"Content-Type": "application/json"}
        return json.loads(await _call("POST", url, self.api.auth | kind, memoryview(json.dumps(body).encode())))


async def _call(method: str, url: str, headers: dict[str, str], *body: memoryview) -> bytes:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        told = {"Host": place.netloc, "Content-Length": str(sum(map(len, body))), "Connection": "close", **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        writer.write(f"{method} {place.path}?{place.query} HTTP/1.1\r\n{lines}\r\n".encode())
        for part in body:
            for start in range(0, len(part), PIECE_BYTES):
                writer.write(part[start : start + PIECE_BYTES])
                await writer.drain()
        head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status = int(head.split(b" ", 2)[1])
    if status not in {200, 201}:
        raise OSError(f"{status} {answer[:300]!r}")
    return answer


async def measure(generator: Generator, count: int, one: Callable[[int], Awaitable[None]]) -> Measured:
    """All clients at once."""
    seconds, errors = list[float](), list[str]()

    async def client(number: int) -> None:
        started = time.perf_counter()
        try:
            await one(number)
        except (OSError, ValueError, IndexError, KeyError) as error:
            errors.append(f"{type(error).__name__}: {error}")
        seconds.append(time.perf_counter() - started)

    generator.api.forget_peak()
    started = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(count)))
    size = count * len(generator.content) / MIB
    rate, arriving = size / (time.perf_counter() - started), size / (generator.arrived_at - started)
    return Measured(rate, arriving, seconds, errors, generator.api.memory("VmHWM"))


def allow_open_files() -> None:
    """A thousand clients are a thousand descriptors here, and as many there."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536), most))
    if min(most, 65_536) < 4096:
        print(f"warning: only {most} open files are allowed, 4096 are needed")


def report(name: str, found: dict[str, list[Measured]], raw: str) -> float:
    """One table; ratios are to `raw`."""
    columns = f"{'MiB/s':>8}{'ratio':>20}{'bytes there':>20}{'p50 s':>8}{'p99 s':>8}{'errors':>8}{'API peak MiB':>14}"
    print(f"\n{name}\n{'':>8}{columns}")
    for way, rounds in found.items():
        pairs = list(zip(rounds, found[raw], strict=True))
        ratio, arriving = spread(a.rate / b.rate for a, b in pairs), spread(a.arriving / b.arriving for a, b in pairs)
        seconds = sorted(second for each in rounds for second in each.seconds)
        rate, p50 = statistics.median(each.rate for each in rounds), seconds[len(seconds) // 2]
        p99 = seconds[min(len(seconds) - 1, int(len(seconds) * 0.99))]
        errors, peak = sum(len(each.errors) for each in rounds), max(each.peak for each in rounds)
        print(f"{way:<8}{rate:>8.0f}{ratio:>20}{arriving:>20}{p50:>8.2f}{p99:>8.2f}{errors:>8}{peak:>14.0f}")
        for text in sorted({error for each in rounds for error in each.errors})[:3]:
            print(f"{'':>8}{text[:200]}")
    return max(each.peak for rounds in found.values() for each in rounds)


async def compare(api: SignedIn, servers: LocalServers, rounds: int, share: float) -> float:
    """Prints each scenario; the highest peak of the API."""
    peak = 0.0
    for name, (clients, size) in SCENARIOS.items():
        count = max(1, round(clients * share))
        generator = Generator(api, servers, size)
        ways = {"raw": generator.raw, "api": generator.through_api, "direct": generator.direct}
        back = {"from S3": generator.download_raw, "API": generator.download}
        found: dict[str, list[Measured]] = {way: [] for way in ways}
        fetched: dict[str, list[Measured]] = {way: [] for way in back}
        for number in range(rounds):
            for way in ways if number % 2 == 0 else reversed(ways):
                generator.prepare(count)
                api.sign_in()
                found[way].append(await measure(generator, count, ways[way]))
                if way == "api" and not found[way][-1].errors:
                    for each in back if number % 2 == 0 else reversed(back):
                        fetched[each].append(await measure(generator, count, back[each]))
                generator.clean()
        peak = max(peak, report(name, found, "raw"))
        if fetched["API"]:
            peak = max(peak, report(f"{name}, downloaded", fetched, "from S3"))
    return peak


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=6)
    asked.add_argument("--share", type=float, default=1.0, help="of the clients, for a short run")
    given = asked.parse_args()
    load = os.getloadavg()
    allow_open_files()
    with (
        tempfile.TemporaryDirectory() as folder,
        start_servers(Path(folder) / "servers", Embedded()) as servers,
        SignedIn(servers, Path(folder) / "api") as api,
    ):
        idle = api.memory()
        peak = uvloop.run(compare(api, servers, given.rounds, given.share))
    print(f"\nAPI: {idle:.0f} MiB resident when started, {peak:.0f} at the highest peak (target: below 250)")
    print(f"{given.rounds} rounds; {surroundings(load)}")


if __name__ == "__main__":
    main()
