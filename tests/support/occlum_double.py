"""A double of Occlum's /dev/sgx at the ioctl boundary: raw addresses in, raw memory out.

It knows nothing of our ctypes classes: codes, sizes and offsets are written here a second time, from Intel's
and Occlum's sources. Keys depend on what EGETKEY binds them to; SVNs above the platform's own are refused.
"""

import ctypes
import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.forge import IDENTITY, Platform

SELF_TARGET = 0x82007303
CREATE_REPORT = 0xC0187304
GET_DCAP_QUOTE_SIZE = 0x80047307
GEN_DCAP_QUOTE = 0xC0187308
GET_KEY = 0xC010730B
TARGET = b"\x77" * 512


@dataclass
class OcclumDouble:
    """One enclave on one processor."""

    platform: Platform
    cpu_svn: bytes = bytes([5] * 16)
    isv_svn: int = 7
    config_svn: int = 0
    debug: bool = False
    fuse: bytes = b"fuse"
    change_quote: Callable[[bytes], bytes] = lambda quote: quote
    """What a hostile host does with a quote on its way."""
    announce: int | None = None
    """Quote size to announce instead of the right one."""
    calls: list[int] = field(default_factory=list)

    def ioctl(self, descriptor: int, request: int, address: int) -> int:
        """As libc's: 0, or -1 (EINVAL) for everything that is wrong."""
        self.calls.append(request)
        actions = {
            SELF_TARGET: self._self_target,
            CREATE_REPORT: self._create_report,
            GET_DCAP_QUOTE_SIZE: self._quote_size,
            GEN_DCAP_QUOTE: self._quote,
            GET_KEY: self._key,
        }
        try:
            actions[request](address)
        except (KeyError, ValueError):
            return -1
        return 0

    def _self_target(self, address: int) -> None:
        ctypes.memmove(address, TARGET, 512)

    def _create_report(self, address: int) -> None:
        target, data, report = struct.unpack("<QQQ", ctypes.string_at(address, 24))
        if ctypes.string_at(target, 512) != TARGET:
            raise ValueError("not for us")
        body = bytearray(384)
        body[:16] = self.cpu_svn
        body[256:262] = struct.pack("<HHH", 3, self.isv_svn, self.config_svn)
        body[320:384] = ctypes.string_at(data, 64)
        ctypes.memmove(report, bytes(body).ljust(432, b"\xee"), 432)

    def _quote_size(self, address: int) -> None:
        size = self.announce or len(self.platform.quote(bytes(64))) + 100
        ctypes.memmove(address, struct.pack("<I", size), 4)

    def _quote(self, address: int) -> None:
        data, size, buffer = struct.unpack("<QQQ", ctypes.string_at(address, 24))
        (room,) = struct.unpack("<I", ctypes.string_at(size, 4))
        quote = self.change_quote(self.platform.quote(ctypes.string_at(data, 64), IDENTITY))
        if len(quote) > room:
            raise ValueError("too small")
        ctypes.memmove(buffer, quote, len(quote))

    def _key(self, address: int) -> None:
        request, key = struct.unpack("<QQ", ctypes.string_at(address, 16))
        raw = ctypes.string_at(request, 512)
        name, policy, isv_svn, reserved = struct.unpack_from("<HHHH", raw)
        flags_mask, xfrm_mask = struct.unpack_from("<QQ", raw, 24)
        misc_mask, config_svn = struct.unpack_from("<IH", raw, 72)
        too_new = isv_svn > self.isv_svn or config_svn > self.config_svn
        too_new |= any(asked > have for asked, have in zip(raw[8:24], self.cpu_svn, strict=True))
        if name != 4 or reserved or any(raw[78:]) or policy not in (1, 2) or too_new:
            raise ValueError("EINVAL")
        flags = (0x05 | (0x02 if self.debug else 0)) & flags_mask
        identity = IDENTITY.measurement if policy == 1 else IDENTITY.signer + struct.pack("<H", 3)
        bound = struct.pack("<QQI", flags, xfrm_mask & 0, misc_mask & 0) + raw[:24] + raw[40:72] + identity
        ctypes.memmove(key, hmac.new(self.fuse, bound, hashlib.sha256).digest()[:16], 16)
