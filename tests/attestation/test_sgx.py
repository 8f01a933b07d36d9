"""The SGX platform against a double at the ioctl boundary, and its C layouts against independent values."""

import ctypes
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dcap_qvl
import pytest

from chiron.runtime.attestation import sgx_structures as c
from chiron.runtime.attestation.platform import SealingPolicy, attest
from chiron.runtime.attestation.sgx import KEPT_S, Pccs, SgxPlatform
from chiron.runtime.attestation.verify import Expected, verify
from chiron.runtime.errors import PlatformUnavailable
from chiron.wire.attestation import Collateral, Role
from tests.support.forge import JOB, NONCE, Platform, claims, flipped
from tests.support.occlum_double import (
    CREATE_REPORT,
    GEN_DCAP_QUOTE,
    GET_DCAP_QUOTE_SIZE,
    GET_KEY,
    SELF_TARGET,
    OcclumDouble,
)

HARDWARE = Platform(datetime.now(UTC))
LABEL = b"chiron/v1/model"


def platform(double: OcclumDouble) -> SgxPlatform:
    return SgxPlatform(3, double.ioctl, lambda quote: HARDWARE.collateral)


@pytest.fixture
def double() -> OcclumDouble:
    return OcclumDouble(HARDWARE)


@pytest.mark.parametrize(
    ("structure", "size", "offsets"),
    [
        (c.TargetInfo, 512, {}),
        (
            c.ReportBody,
            384,
            {
                "cpu_svn": 0,
                "misc_select": 16,
                "isv_ext_prod_id": 32,
                "flags": 48,
                "xfrm": 56,
                "mr_enclave": 64,
                "mr_signer": 128,
                "config_id": 192,
                "isv_prod_id": 256,
                "isv_svn": 258,
                "config_svn": 260,
                "isv_family_id": 304,
                "report_data": 320,
            },
        ),
        (c.Report, 432, {"body": 0, "key_id": 384, "mac": 416}),
        (
            c.KeyRequest,
            512,
            {
                "key_name": 0,
                "key_policy": 2,
                "isv_svn": 4,
                "cpu_svn": 8,
                "flags_mask": 24,
                "xfrm_mask": 32,
                "key_id": 40,
                "misc_mask": 72,
                "config_svn": 76,
            },
        ),
        (c.CreateReportArgument, 24, {"target_info": 0, "report_data": 8, "report": 16}),
        (c.QuoteArgument, 24, {"report_data": 0, "quote_size": 8, "quote": 16}),
        (c.KeyArgument, 16, {"request": 0, "key": 8}),
    ],
)
def test_layout_is_intels(structure: type[ctypes.Structure], size: int, offsets: dict[str, int]) -> None:
    assert ctypes.sizeof(structure) == size
    assert {name: getattr(structure, name).offset for name in offsets} == offsets


def test_request_codes_are_occlums() -> None:
    assert {request.name: int(request) for request in c.Request} == {
        "SELF_TARGET": SELF_TARGET,
        "CREATE_REPORT": CREATE_REPORT,
        "GET_DCAP_QUOTE_SIZE": GET_DCAP_QUOTE_SIZE,
        "GEN_DCAP_QUOTE": GEN_DCAP_QUOTE,
        "GET_KEY": GET_KEY,
    }


def test_attribute_mask_is_occlums_and_binds_the_debug_flag() -> None:
    ignored = 0x00FF_FFFF_FFFF_FFC0 | 0x4 | 0x10 | 0x20
    expected = ~ignored & (2**64 - 1)
    assert expected == c.ATTRIBUTE_MASK
    assert c.ATTRIBUTE_MASK & 0x02


def test_evidence_from_the_device_verifies(double: OcclumDouble) -> None:
    evidence = attest(platform(double), claims())
    verify(evidence, HARDWARE.policy(), Expected(Role.PARAMETER_SERVER, JOB, NONCE), datetime.now(UTC))
    assert double.calls == [GET_DCAP_QUOTE_SIZE, GEN_DCAP_QUOTE]


@pytest.mark.parametrize("size", [1, 432, 32 * 1024 + 1, 2**31])
def test_absurd_quote_size_is_refused_before_anything_is_allocated(size: int) -> None:
    with pytest.raises(PlatformUnavailable, match="announced"):
        platform(OcclumDouble(HARDWARE, announce=size)).quote(bytes(64))


def test_buffer_that_is_too_small_is_an_error() -> None:
    with pytest.raises(PlatformUnavailable, match="GEN_DCAP_QUOTE"):
        platform(OcclumDouble(HARDWARE, announce=1000)).quote(bytes(64))


def test_hosts_altered_quotes_are_refused() -> None:
    def refused(change: "type[object] | object", match: str) -> None:
        double = OcclumDouble(HARDWARE, change_quote=change)  # type: ignore[arg-type]
        with pytest.raises(PlatformUnavailable, match=match):
            platform(double).quote(bytes(64))

    refused(lambda quote: b"", "no quote")
    refused(lambda quote: b"\xff" * len(quote), "no quote")
    refused(lambda quote: flipped(quote, 433), "no quote")
    refused(lambda quote: flipped(quote, 48 + 320), "other report data")
    refused(lambda quote: HARDWARE.quote(b"\x01" * 64), "other report data")


def test_sealing_key_is_the_same_for_the_same_enclave(double: OcclumDouble) -> None:
    key = platform(double).sealing_key(SealingPolicy.MEASUREMENT, LABEL)
    assert len(key) == 32
    assert platform(replace(double)).sealing_key(SealingPolicy.MEASUREMENT, LABEL) == key


def test_sealing_keys_differ_by_policy_label_processor_and_debug(double: OcclumDouble) -> None:
    keys = {
        platform(double).sealing_key(SealingPolicy.MEASUREMENT, LABEL),
        platform(double).sealing_key(SealingPolicy.SIGNER, LABEL),
        platform(double).sealing_key(SealingPolicy.MEASUREMENT, LABEL + b"x"),
        platform(replace(double, fuse=b"other")).sealing_key(SealingPolicy.MEASUREMENT, LABEL),
        platform(replace(double, debug=True)).sealing_key(SealingPolicy.MEASUREMENT, LABEL),
    }
    assert len(keys) == 5


def test_key_is_bound_to_todays_svns_and_its_recipe_finds_it_after_an_update(double: OcclumDouble) -> None:
    before = platform(double)
    recipe, key = before.sealing_recipe(), before.sealing_key(SealingPolicy.MEASUREMENT, LABEL)
    assert recipe == bytes([5] * 16) + b"\x07\0" + b"\0\0"
    after = platform(replace(double, cpu_svn=bytes([6] * 16), isv_svn=8))
    assert after.sealing_key(SealingPolicy.MEASUREMENT, LABEL) != key
    assert after.sealing_key(SealingPolicy.MEASUREMENT, LABEL, recipe) == key


def test_older_platform_cannot_derive_the_keys_of_a_newer_one(double: OcclumDouble) -> None:
    newer = platform(replace(double, cpu_svn=bytes([6] * 16)))
    with pytest.raises(PlatformUnavailable, match="GET_KEY"):
        platform(double).sealing_key(SealingPolicy.MEASUREMENT, LABEL, newer.sealing_recipe())


@pytest.mark.parametrize("recipe", [b"x", bytes(19), bytes(21)])
def test_recipe_of_another_platform_is_refused(double: OcclumDouble, recipe: bytes) -> None:
    with pytest.raises(PlatformUnavailable, match="not sealed by SGX"):
        platform(double).sealing_key(SealingPolicy.MEASUREMENT, LABEL, recipe)


def test_without_the_device_there_is_no_platform(tmp_path: Path) -> None:
    with pytest.raises(PlatformUnavailable, match="not an Occlum enclave"):
        SgxPlatform.open(lambda quote: HARDWARE.collateral, device=str(tmp_path / "sgx"))


def test_device_that_is_no_sgx_device_refuses_everything() -> None:
    """The real libc.ioctl, on a real device that does not know the requests."""
    opened = SgxPlatform.open(lambda quote: HARDWARE.collateral, device="/dev/null")
    with pytest.raises(PlatformUnavailable, match="GET_DCAP_QUOTE_SIZE"):
        opened.quote(bytes(64))
    with pytest.raises(PlatformUnavailable, match="SELF_TARGET"):
        opened.sealing_key(SealingPolicy.MEASUREMENT, LABEL)


class TestPccs:
    """Collateral for our own quotes."""

    async def test_is_fetched_once_an_hour(self) -> None:
        """Inside a running loop, as in a role."""
        asked, now = [], [0.0]

        async def fetch(url: str, quote: bytes) -> "dcap_qvl.QuoteCollateralV3":
            asked.append((url, quote))
            return dcap_qvl.QuoteCollateralV3.from_json(HARDWARE.collateral.model_dump_json())

        pccs = Pccs("http://pccs", fetch=fetch, clock=lambda: now[0])
        first = pccs(b"q")
        now[0] = KEPT_S
        assert pccs(b"q") is first
        now[0] = KEPT_S + 1
        pccs(b"q")
        assert asked == [("http://pccs", b"q")] * 2
        assert Collateral.model_validate(first) == HARDWARE.collateral

    def test_nobody_there_makes_the_platform_unavailable(self) -> None:
        with pytest.raises(PlatformUnavailable, match="PCCS"):
            Pccs("http://127.0.0.1:9")(HARDWARE.quote(bytes(64)))
