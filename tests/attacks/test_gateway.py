"""What a hostile gateway says to an owner forges no line on her terminal and overwrites no key of hers."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import dumps
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiron import AsyncClient, JobRequest, OwnerStore, SpecMismatch
from chiron.cli.output import as_text, escape
from chiron.client.datasets import ArraySource, encrypt
from chiron.client.gateway_session import GatewaySession
from chiron.client.store import JobRecord
from chiron.wire.exchange import ExchangeTerms
from chiron.wire.jobs import Job, JobState
from tests.support.specs import job_spec

ESC = "\x1b"
FORGED = "15. it binds the keys that we are about to use"
PROBLEM = {
    "type": "about:blank",
    "title": "x",
    "status": 400,
    "code": "invalid-request",
    "detail": f"{ESC}[2K\r{ESC}[32m✓{ESC}[0m {FORGED}\n  ✓ {FORGED}\u202e",
}
BUILDERS = [
    {
        "sha256": "a" * 64,
        "size": 10,
        "capabilities": ["log"],
        "created_at": f"2026{ESC}]0;owned\x07{ESC}[31mRED\r\nsecond line",
        "manifest": {
            "name": "x",
            "version": "1",
            "description": f"{ESC}[31mRED{ESC}[0m",
            "tasks": ["classification"],
            "max_input_elements": 10,
            "envelope": {"max_parameters": 10},
        },
    }
]


class _Hostile(BaseHTTPRequestHandler):
    def _answer(self, status: int, content: object) -> None:
        body = dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/problem+json" if status >= 400 else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path.startswith("/v1/builders"):
            self._answer(200, BUILDERS)
        else:
            self._answer(400, PROBLEM)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(400, PROBLEM)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def hostile_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hostile)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize(
    "command",
    [
        ["attest", "verify", "1" * 32, "--measurement", "a" * 64],
        ["builder", "list"],
        ["job", "list"],
        ["job", "show", "1" * 32],
        ["job", "cancel", "1" * 32],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_gateways_text_neither_moves_the_cursor_nor_looks_like_a_line_of_ours(
    hostile_url: str, tmp_path: Path, command: list[str]
) -> None:
    environment = {"CHIRON_HOME": str(tmp_path), "CHIRON_URL": hostile_url, "CHIRON_API_KEY": "k"}
    ended = subprocess.run(
        [sys.executable, "-m", "chiron", *command],
        env=os.environ | environment,
        capture_output=True,
        check=False,
    )
    told = (ended.stdout + ended.stderr).decode()
    assert "Traceback" not in told
    assert all(character.isprintable() or character == "\n" for character in told), told
    assert not any(line.lstrip().startswith(("✓", FORGED, "second line")) for line in told.splitlines())


@given(st.text())
def test_foreign_text_is_printable_and_stays_in_its_place(text: str) -> None:
    assert as_text(text).isprintable()
    first, *further = escape(text).split("\n")
    assert all(line.startswith("  │ ") for line in further)
    assert "\x1b" not in first


async def test_a_job_id_that_is_known_here_is_refused_and_its_key_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = OwnerStore(tmp_path / "home")
    data = encrypt(ArraySource([[0.5], [1.5], [2.5], [3.5]], ["a", "b", "a", "b"]), tmp_path / "d", store)
    manifest = data.bundle.manifest
    spec = job_spec(dataset=manifest)
    request = JobRequest(
        dataset_id=manifest.dataset_id,
        builder_sha256=spec.builder_sha256,
        trainers=spec.exchange.trainers,
        exchanges=spec.exchange.exchanges,
        seed=spec.seed,
        trials=spec.trials,
        validation_percent=spec.validation_percent,
        query_rows=spec.query_rows,
        mode=spec.exchange.mode,
        terms=ExchangeTerms(unpaced=spec.exchange.unpaced),
    )

    async def earlier(_: GatewaySession, __: JobRequest) -> Job:
        return Job(spec=spec, state=JobState.CREATED, created_at="2026-01-01T00:00:00Z")

    monkeypatch.setattr(GatewaySession, "create_job", earlier)
    async with AsyncClient("http://127.0.0.1:9", "k", store=store) as client:
        await client.create_job(request)
        kept: JobRecord = store.job(spec.job)
        with pytest.raises(SpecMismatch, match="earlier job"):
            await client.create_job(request)
    assert store.job(spec.job) == kept
