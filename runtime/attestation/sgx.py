"""SGX under Occlum: quotes and sealing keys through /dev/sgx, collateral from the host's PCCS.

Never run on hardware by us: the ioctls are driven against a double at their boundary (tests/attestation).
Collateral is signed by Intel, and verified by whoever reads it.
"""

import asyncio
import ctypes
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import dcap_qvl
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import ValidationError

from chiron.runtime.attestation import sgx_structures as c
from chiron.runtime.attestation.platform import Quoted, SealingPolicy
from chiron.runtime.attestation.quote import SIGNED_BYTES, SgxQuote
from chiron.runtime.errors import PlatformUnavailable, QuoteMalformed
from chiron.wire.attestation import MAX_QUOTE_BYTES, Collateral

KEPT_S = 3600.0
"""Collateral is of the platform, not of one quote, and is good for weeks."""
TIMEOUT_S = 30.0

Fetch = Callable[[str, bytes], Awaitable["dcap_qvl.QuoteCollateralV3"]]


class Pccs:
    """Fetches collateral from the PCCS at `url`, and keeps it for an hour."""

    def __init__(
        self,
        url: str,
        *,
        fetch: Fetch = dcap_qvl.get_collateral,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._kept: tuple[float, Collateral] | None = None

    def __call__(self, quote: bytes) -> Collateral:
        """Collateral that verifies `quote`.

        Raises:
            PlatformUnavailable: the PCCS gave none.
        """
        if self._kept is None or self._clock() - self._kept[0] > KEPT_S:
            self._kept = (self._clock(), self._fetched(quote))
        return self._kept[1]

    def _fetched(self, quote: bytes) -> Collateral:
        # In a thread: whoever asks for a quote may be running an event loop.
        with ThreadPoolExecutor(1) as executor:
            try:
                fetched = executor.submit(asyncio.run, self._ask(quote)).result()
                return Collateral.model_validate_json(fetched)
            except (ValidationError, ValueError, OSError, TimeoutError) as error:
                raise PlatformUnavailable("the PCCS gave no collateral") from error

    async def _ask(self, quote: bytes) -> str:
        async with asyncio.timeout(TIMEOUT_S):
            return str((await self._fetch(self._url, quote)).to_json())


DEVICE = "/dev/sgx"
RECIPE_BYTES = 16 + 2 + 2
"""CPUSVN, ISVSVN and CONFIGSVN: public, stored beside what is sealed."""
_KEY_ID_LABEL = b"chiron/v1/sgx-seal\0"
_POLICY = {
    SealingPolicy.MEASUREMENT: c.KEY_POLICY_MRENCLAVE,
    SealingPolicy.SIGNER: c.KEY_POLICY_MRSIGNER,
}

Ioctl = Callable[[int, int, int], int]
"""(file descriptor, request code, address of the argument) → 0, or -1 for any error."""


def libc_ioctl() -> Ioctl:
    """The C library's ioctl, which under Occlum is the LibOS's."""
    function = ctypes.CDLL(None, use_errno=True).ioctl
    function.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
    function.restype = ctypes.c_int

    def call(descriptor: int, request: int, address: int) -> int:
        return int(function(descriptor, request, address))

    return call


class SgxPlatform:
    """An SGX enclave's own platform. `collateral` fetches what verifies a quote; peers check it, not we."""

    def __init__(self, descriptor: int, ioctl: Ioctl, collateral: Callable[[bytes], Collateral]) -> None:
        self._descriptor = descriptor
        self._ioctl = ioctl
        self._collateral = collateral

    @classmethod
    def open(
        cls, collateral: Callable[[bytes], Collateral], *, device: str = DEVICE, ioctl: Ioctl | None = None
    ) -> Self:
        """The platform behind `device`.

        Raises:
            PlatformUnavailable: there is no such device: this is not an Occlum enclave.
        """
        try:
            descriptor = os.open(device, os.O_RDONLY)
        except OSError as error:
            raise PlatformUnavailable(f"{device} cannot be opened: not an Occlum enclave") from error
        return cls(descriptor, ioctl or libc_ioctl(), collateral)

    def quote(self, report_data: bytes) -> Quoted:
        """Quote report data: `Platform.quote`."""
        size = ctypes.c_uint32()
        self._call(c.Request.GET_DCAP_QUOTE_SIZE, size)
        if not SIGNED_BYTES < size.value <= MAX_QUOTE_BYTES:
            raise PlatformUnavailable(f"a quote of {size.value} bytes was announced")
        data = (ctypes.c_uint8 * c.REPORT_DATA_BYTES).from_buffer_copy(report_data)
        buffer = (ctypes.c_uint8 * size.value)()
        argument = c.QuoteArgument(ctypes.addressof(data), ctypes.addressof(size), ctypes.addressof(buffer))
        self._call(c.Request.GEN_DCAP_QUOTE, argument)
        quote = _trimmed(bytes(buffer))
        return Quoted(_checked(quote, report_data), self._collateral(quote))

    def sealing_recipe(self) -> bytes:
        """Today's SVNs (`Platform.sealing_recipe`), from a report that the processor makes of us."""
        report = c.Report()
        data = (ctypes.c_uint8 * c.REPORT_DATA_BYTES)()
        target = c.TargetInfo()
        self._call(c.Request.SELF_TARGET, target)
        argument = c.CreateReportArgument(
            ctypes.addressof(target), ctypes.addressof(data), ctypes.addressof(report)
        )
        self._call(c.Request.CREATE_REPORT, argument)
        svns = (report.body.isv_svn, report.body.config_svn)
        return bytes(report.body.cpu_svn) + b"".join(svn.to_bytes(2, "little") for svn in svns)

    def sealing_key(self, policy: SealingPolicy, label: bytes, recipe: bytes = b"") -> bytes:
        """A sealing key (`Platform.sealing_key`). EGETKEY gives 128 bits: two keys together make 256."""
        recipe = recipe or self.sealing_recipe()
        if len(recipe) != RECIPE_BYTES:
            raise PlatformUnavailable("the sealed object was not sealed by SGX")
        halves = b"".join(self._derive(policy, _key_id(label, half), recipe) for half in (0, 1))
        info = _KEY_ID_LABEL + policy.encode() + b"\0" + label
        return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(halves)

    def _derive(self, policy: SealingPolicy, key_id: bytes, recipe: bytes) -> bytes:
        request = c.KeyRequest(
            key_name=c.KEY_NAME_SEAL,
            key_policy=_POLICY[policy],
            isv_svn=int.from_bytes(recipe[16:18], "little"),
            cpu_svn=(ctypes.c_uint8 * 16).from_buffer_copy(recipe[:16]),
            flags_mask=c.ATTRIBUTE_MASK,
            xfrm_mask=0,
            key_id=(ctypes.c_uint8 * 32).from_buffer_copy(key_id),
            misc_mask=c.MISC_MASK,
            config_svn=int.from_bytes(recipe[18:20], "little"),
        )
        key = (ctypes.c_uint8 * c.KEY_BYTES)()
        self._call(c.Request.GET_KEY, c.KeyArgument(ctypes.addressof(request), ctypes.addressof(key)))
        try:
            return bytes(key)
        finally:
            ctypes.memset(key, 0, c.KEY_BYTES)

    def _call(self, request: c.Request, argument: "ctypes.Structure | ctypes.c_uint32") -> None:
        if self._ioctl(self._descriptor, int(request), ctypes.addressof(argument)) != 0:
            raise PlatformUnavailable(f"/dev/sgx refused {request.name}")


def _key_id(label: bytes, half: int) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(_KEY_ID_LABEL + bytes([half]) + label)
    return digest.finalize()


def _trimmed(buffer: bytes) -> bytes:
    """Occlum does not write the size back: the quote's own length field says where it ends."""
    length = int.from_bytes(buffer[SIGNED_BYTES : SIGNED_BYTES + 4], "little")
    return buffer[: SIGNED_BYTES + 4 + length]


def _checked(quote: bytes, report_data: bytes) -> bytes:
    """The quoting enclave's answer passed through the host: it may be anything."""
    try:
        parsed = SgxQuote.parse(quote)
    except QuoteMalformed as error:
        raise PlatformUnavailable("the host returned something that is no quote") from error
    if parsed.report.report_data != report_data:
        raise PlatformUnavailable("the host returned a quote over other report data")
    return quote
