"""`scripts/verify_attestation.py`: what an auditor runs, with what exit codes, and with how few packages."""

import asyncio
import base64
import importlib.util
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chiron.runtime.attestation.steps import Step
from chiron.wire.attestation import Collateral
from tests.support.forge import JOB, MEASUREMENT, NONCE, Platform
from tests.support.genuine import IN_DATE, SIGNER, evidence
from tests.support.genuine import MEASUREMENT as MEASUREMENT_OF_SAMPLE

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "verify_attestation.py"
PACKAGES = {"cryptography", "dcap_qvl", "cffi", "_cffi_backend", "pycparser"}
"""The two that it needs, and what they need."""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("verify_attestation", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def platform() -> Platform:
    return Platform(datetime.now(UTC))


@pytest.fixture
def files(tmp_path: Path, platform: Platform) -> Path:
    """A folder with a software platform's evidence, quote, collateral and root."""
    evidence = platform.evidence()
    (tmp_path / "evidence.json").write_text(evidence.model_dump_json())
    (tmp_path / "quote").write_bytes(evidence.quote)
    (tmp_path / "collateral.json").write_text(evidence.collateral.model_dump_json(exclude_none=True))
    (tmp_path / "root.pem").write_bytes(platform.root.pem)
    return tmp_path


class Genuine:
    """Runs the script on Intel's own evidence."""

    def __init__(self, script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
        self._script = script
        self._capsys = capsys

    def __call__(
        self, *options: str, name: str = "sgx", at: str | None = IN_DATE, quote: Path | None = None
    ) -> int:
        arguments = ["--quote", str(quote or evidence(f"{name}_quote"))]
        arguments += ["--collateral", str(evidence(f"{name}_quote_collateral.json"))]
        arguments += ["--mrenclave", MEASUREMENT_OF_SAMPLE, "--mrsigner", SIGNER]
        arguments += [*(["--at", at] if at else []), *options]
        return int(self._script.main(arguments))

    def out(self) -> str:
        return self._capsys.readouterr().out


@pytest.fixture
def genuine(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> Genuine:
    return Genuine(script, capsys)


ACCEPT = ("--accept-tcb", "ConfigurationAndSWHardeningNeeded")


class TestGenuineEvidence:
    """Made by Intel's hardware and signed under Intel's root."""

    def test_verifies_in_its_time(self, genuine: Genuine) -> None:
        assert genuine(*ACCEPT) == 0
        out = genuine.out()
        assert "10. pass" in out
        assert out.rstrip().endswith("verified")

    def test_stops_at_the_tcb_step_without_accept_tcb(self, genuine: Genuine) -> None:
        assert genuine() == 10 + Step.TCB_STATUS.number
        assert "REFUSED at step 8 (tcb-status)" in genuine.out()

    def test_stops_at_expiry_today(self, genuine: Genuine) -> None:
        assert genuine(*ACCEPT, at=None) == 10 + Step.SIGNATURE.number
        assert "CrlExpired" in genuine.out()

    def test_stops_at_the_tee_type_for_tdx(self, genuine: Genuine) -> None:
        assert genuine(*ACCEPT, name="tdx") == 10 + Step.TEE_TYPE.number
        assert "(tee-type)" in genuine.out()

    def test_stops_at_the_signature_for_one_flipped_byte(self, genuine: Genuine, tmp_path: Path) -> None:
        quote = bytearray(evidence("sgx_quote").read_bytes())
        quote[100] ^= 1
        (tmp_path / "quote").write_bytes(quote)
        assert genuine(*ACCEPT, quote=tmp_path / "quote") == 10 + Step.SIGNATURE.number
        assert "(signature)" in genuine.out()

    def test_json_names_the_step(self, genuine: Genuine) -> None:
        genuine("--json")
        told = json.loads(genuine.out())
        assert (told["verified"], told["refused"], told["exit_code"]) == (False, "tcb-status", 18)
        assert [step["passed"] for step in told["steps"]] == [True] * 4 + [False]


def test_evidence_from_a_file_verifies_in_every_step(
    script: ModuleType, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(_evidence(files, "--json")) == 0
    captured = capsys.readouterr()
    assert [step["number"] for step in json.loads(captured.out)["steps"]] == [1, 2, 3, *range(7, 16)]
    assert "SOFTWARE root" in captured.err


@pytest.mark.parametrize(
    ("options", "step"),
    [
        (["--nonce", "00" * 32], Step.NONCE),
        (["--job", "b" * 32], Step.ROLE_AND_JOB),
        (["--role", "predictor"], Step.ROLE_AND_JOB),
        (["--at", "2020-01-01T00:00:00Z"], Step.SIGNATURE),
    ],
)
def test_exit_code_names_the_step(script: ModuleType, files: Path, options: list[str], step: Step) -> None:
    assert script.main(_evidence(files, *options)) == 10 + step.number


def test_without_the_software_root_it_is_refused_and_told_why(
    script: ModuleType, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = _evidence(files)
    place = arguments.index("--trust-software-root")
    assert script.main(arguments[:place] + arguments[place + 2 :]) == 10 + Step.CERTIFICATE_CHAIN.number
    assert "development TEE" in capsys.readouterr().out


def test_policy_file_is_used_and_options_override_it(script: ModuleType, files: Path) -> None:
    (files / "policy.toml").write_text(
        f'measurements = ["{"0" * 64}"]\nsoftware_root_file = "root.pem"\ngrace_days = 3\n'
    )
    options = ["--quote", str(files / "quote"), "--collateral", str(files / "collateral.json")]
    options += ["--policy", str(files / "policy.toml")]
    assert script.main(options) == 10 + Step.MEASUREMENT.number
    assert script.main([*options, "--mrenclave", MEASUREMENT.hex().upper()]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--quote", "q"],
        ["--quote", "q", "--collateral", "c"],
        ["--url", "http://localhost", "--mrenclave", "0" * 64],
        ["--quote", "q", "--collateral", "c", "--mrenclave", "xyz"],
        ["--quote", "q", "--collateral", "c", "--mrenclave", "0" * 64, "--at", "yesterday"],
        ["--quote", "q", "--collateral", "c", "--mrenclave", "0" * 64, "--accept-tcb", "Fine"],
        ["--quote", "q", "--url", "http://localhost"],
        ["e", "--quote", "q"],
    ],
)
def test_wrong_usage_exits_with_2(script: ModuleType, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        script.main(arguments)
    assert ended.value.code == 2


def test_bare_evidence_needs_job_and_nonce(script: ModuleType, files: Path) -> None:
    for options in ([], ["--job", JOB]):
        with pytest.raises(SystemExit) as ended:
            script.main([str(files / "evidence.json"), "--mrenclave", "0" * 64, *options])
        assert ended.value.code == 2


@pytest.mark.parametrize("broken", ["quote", "collateral.json", "root.pem", "evidence.json"])
def test_unreadable_input_exits_with_3(
    script: ModuleType, files: Path, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    bare = ["--quote", str(files / "quote"), "--collateral", str(files / "collateral.json")]
    bare += ["--mrenclave", MEASUREMENT.hex(), "--trust-software-root", str(files / "root.pem")]
    (files / broken).unlink()
    assert script.main(_evidence(files) if broken == "evidence.json" else bare) == 3
    if broken != "quote":
        (files / broken).write_text("{}")
        assert script.main(_evidence(files) if broken == "evidence.json" else bare) == 3
    assert "error:" in capsys.readouterr().err


def test_nobody_at_the_url_or_endpoint_exits_with_3(script: ModuleType) -> None:
    policy = ["--job", JOB, "--mrenclave", "0" * 64]
    assert script.main(["--url", "http://127.0.0.1:9", *policy]) == 3
    assert script.main(["--url", "file:///etc/passwd", *policy]) == 3
    assert script.main(["--tls", "127.0.0.1:9", *policy]) == 3
    assert script.main(["--tls", "nonsense", *policy]) == 3


def test_it_runs_with_two_packages_and_what_they_need(files: Path) -> None:
    """Anything else from site-packages fails to import."""
    program = f"""
import sys, runpy
known = set(sys.stdlib_module_names) | set({sorted(PACKAGES)!r})
class Only:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in known and not name.startswith("_sysconfigdata"):
            raise ImportError("not among the few: " + name)
sys.meta_path.insert(0, Only())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    arguments = [sys.executable, "-I", "-c", program, str(SCRIPT), *_evidence(files)]
    finished = subprocess.run(arguments, capture_output=True, text=True, cwd=files, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.rstrip().endswith("verified")


async def test_collateral_is_fetched_from_a_pccs(files: Path, platform: Platform) -> None:
    """A server of Intel's PCS interface, version 4, on loopback; dcap-qvl's own client asks it."""
    async with _Pccs(platform.collateral) as url:
        arguments = ["--quote", str(files / "quote"), "--pccs", url, "--mrenclave", MEASUREMENT.hex()]
        arguments += ["--trust-software-root", str(files / "root.pem")]
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), *arguments, stdout=asyncio.subprocess.PIPE
        )
        out = (await process.communicate())[0].decode()
    assert process.returncode == 0, out
    assert "11. pass" in out


class _Pccs:
    def __init__(self, collateral: Collateral) -> None:
        self._collateral = collateral
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> str:
        app = web.Application()
        app.add_routes([web.get("/sgx/certification/v4/{name:.*}", self._answer)])
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        from urllib.parse import quote

        c = self._collateral
        answers: dict[str, tuple[str | bytes, str, str]] = {
            "pckcrl": (bytes.fromhex(c.pck_crl), "SGX-PCK-CRL-Issuer-Chain", c.pck_crl_issuer_chain),
            "rootcacrl": (c.root_ca_crl.encode(), "X-None", ""),
            "tcb": (
                f'{{"tcbInfo":{c.tcb_info},"signature":"{c.tcb_info_signature}"}}',
                "TCB-Info-Issuer-Chain",
                c.tcb_info_issuer_chain,
            ),
            "qe/identity": (
                f'{{"enclaveIdentity":{c.qe_identity},"signature":"{c.qe_identity_signature}"}}',
                "SGX-Enclave-Identity-Issuer-Chain",
                c.qe_identity_issuer_chain,
            ),
        }
        body, header, chain = answers[request.match_info["name"]]
        raw = body.encode() if isinstance(body, str) else body
        return web.Response(body=raw, headers={header: quote(chain)})


def _evidence(files: Path, *options: Any) -> list[str]:
    honest = {"--job": JOB, "--nonce": NONCE.hex(), "--mrenclave": MEASUREMENT.hex()}
    given = dict(zip(options[::2], options[1::2], strict=False)) if "--json" not in options else {}
    pairs = [part for pair in (honest | given).items() for part in pair]
    flags = ["--json"] if "--json" in options else []
    return [
        str(files / "evidence.json"),
        *pairs,
        *flags,
        "--trust-software-root",
        str(files / "root.pem"),
    ]


class TestQuotesAsToolsWriteThem:
    """Hexadecimal, base64, Open Enclave's header: recognised, told, and verified as the same quote."""

    @staticmethod
    def _forms(quote: bytes) -> dict[str, bytes]:
        wrapped = b"\1\0\0\0\2\0\0\0" + len(quote).to_bytes(8, "little") + quote
        return {
            "hexadecimal": quote.hex().encode(),
            "hexadecimal: ": b"0x" + quote.hex().upper().encode() + b"\n",
            "base64": base64.encodebytes(quote),
            "base64: ": base64.urlsafe_b64encode(quote).rstrip(b"="),
            "binary, after Open Enclave's header": wrapped,
            "hexadecimal, after Open Enclave's header": wrapped.hex().encode(),
        }

    @pytest.mark.parametrize("number", range(6))
    def test_every_form_verifies(
        self, script: ModuleType, files: Path, number: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        form, written = list(self._forms((files / "quote").read_bytes()).items())[number]
        (files / "quote").write_bytes(written)
        assert script.main(_quote(files)) == 0
        assert f"quote read as {form.removesuffix(': ')}: " in capsys.readouterr().err

    @pytest.mark.parametrize(
        "written", [b"no quote at all!", b"0x123", b"\1\0\0\0\2\0\0\0" + bytes(8) + b"x"]
    )
    def test_other_text_and_wrong_sizes_are_refused(
        self, script: ModuleType, files: Path, written: bytes
    ) -> None:
        (files / "quote").write_bytes(written)
        assert script.main(_quote(files)) == 3

    @given(st.binary(max_size=1100))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_whatever_is_in_the_file_ends_in_an_exit_code(
        self, script: ModuleType, files: Path, written: bytes
    ) -> None:
        (files / "quote").write_bytes(written)
        assert script.main(_quote(files)) in {3, 11, 12}

    def test_a_quote_in_the_place_of_a_receipt_is_told_its_option(
        self, script: ModuleType, files: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert script.main([str(files / "quote"), "--mrenclave", MEASUREMENT.hex()]) == 3
        assert "--quote" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("collateral", {}, "collateral.pck_crl_issuer_chain is missing"),
        ("collateral", 3, "evidence.collateral is not an object"),
        ("quote", None, "evidence.quote is not a string"),
        ("extra\x1b[2J", 1, "evidence.extra?[2J is unknown"),
    ],
)
def test_a_field_that_does_not_follow_the_schema_is_named(
    script: ModuleType, files: Path, place: str, value: Any, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evidence = json.loads((files / "evidence.json").read_text())
    (files / "evidence.json").write_text(json.dumps(evidence | {place: value}))
    assert script.main(_evidence(files)) == 3
    assert told in capsys.readouterr().err


def test_a_lacking_field_of_collateral_is_named(
    script: ModuleType, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collateral = json.loads((files / "collateral.json").read_text())
    del collateral["tcb_info"]
    (files / "collateral.json").write_text(json.dumps(collateral))
    assert script.main(_quote(files)) == 3
    assert "collateral.tcb_info is missing" in capsys.readouterr().err


def test_digests_may_begin_with_0x_and_dates_need_no_zone(script: ModuleType, files: Path) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    for at in (now.isoformat(), f"{now.isoformat()}Z", f"{now.isoformat()}+00:00"):
        options = ["--mrenclave", f"0x{MEASUREMENT.hex().upper()}", "--at", at]
        assert script.main([*_quote(files), *options]) == 0
    assert script.main([*_quote(files), "--at", "2020-01-01"]) == 10 + Step.SIGNATURE.number


def test_help_lists_the_statuses_that_can_be_accepted(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        script.main(["--help"])
    assert "OutOfDateConfigurationNeeded, SWHardeningNeeded" in " ".join(capsys.readouterr().out.split())


def _quote(files: Path) -> list[str]:
    options = ["--quote", str(files / "quote"), "--collateral", str(files / "collateral.json")]
    options += ["--mrenclave", MEASUREMENT.hex(), "--trust-software-root", str(files / "root.pem")]
    return options
