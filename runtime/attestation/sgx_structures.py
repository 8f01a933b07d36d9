"""The C structures and request codes of Occlum's /dev/sgx (occlum/occlum, `src/libos/src/fs/dev_fs/dev_sgx`).

Layouts are Intel's (SDM volume 3D, chapter 38; `sgx_report.h`, `sgx_key.h`); nothing here does anything.
"""

import ctypes
from enum import IntEnum

REPORT_DATA_BYTES = 64
KEY_BYTES = 16
KEY_NAME_SEAL = 4
KEY_POLICY_MRENCLAVE = 1
KEY_POLICY_MRSIGNER = 2
ATTRIBUTE_MASK = 0xFF00_0000_0000_000B
"""Flags that a sealing key is bound to, as Occlum chooses them. DEBUG (bit 1) is among them: with a mask of
zero, a debug build of the same code would get the same key."""
MISC_MASK = 0xF000_0000


class TargetInfo(ctypes.Structure):
    """sgx_target_info_t: for whom a report is made. We only hand it on."""

    _fields_ = (("opaque", ctypes.c_uint8 * 512),)


class ReportBody(ctypes.Structure):
    """sgx_report_body_t."""

    _fields_ = (
        ("cpu_svn", ctypes.c_uint8 * 16),
        ("misc_select", ctypes.c_uint32),
        ("reserved1", ctypes.c_uint8 * 12),
        ("isv_ext_prod_id", ctypes.c_uint8 * 16),
        ("flags", ctypes.c_uint64),
        ("xfrm", ctypes.c_uint64),
        ("mr_enclave", ctypes.c_uint8 * 32),
        ("reserved2", ctypes.c_uint8 * 32),
        ("mr_signer", ctypes.c_uint8 * 32),
        ("reserved3", ctypes.c_uint8 * 32),
        ("config_id", ctypes.c_uint8 * 64),
        ("isv_prod_id", ctypes.c_uint16),
        ("isv_svn", ctypes.c_uint16),
        ("config_svn", ctypes.c_uint16),
        ("reserved4", ctypes.c_uint8 * 42),
        ("isv_family_id", ctypes.c_uint8 * 16),
        ("report_data", ctypes.c_uint8 * REPORT_DATA_BYTES),
    )


class Report(ctypes.Structure):
    """sgx_report_t: a body and the MAC that only its target can check."""

    _fields_ = (("body", ReportBody), ("key_id", ctypes.c_uint8 * 32), ("mac", ctypes.c_uint8 * 16))


class KeyRequest(ctypes.Structure):
    """sgx_key_request_t: which key EGETKEY derives."""

    _fields_ = (
        ("key_name", ctypes.c_uint16),
        ("key_policy", ctypes.c_uint16),
        ("isv_svn", ctypes.c_uint16),
        ("reserved1", ctypes.c_uint16),
        ("cpu_svn", ctypes.c_uint8 * 16),
        ("flags_mask", ctypes.c_uint64),
        ("xfrm_mask", ctypes.c_uint64),
        ("key_id", ctypes.c_uint8 * 32),
        ("misc_mask", ctypes.c_uint32),
        ("config_svn", ctypes.c_uint16),
        ("reserved2", ctypes.c_uint8 * 434),
    )


class CreateReportArgument(ctypes.Structure):
    """The argument of `CREATE_REPORT`."""

    _fields_ = (
        ("target_info", ctypes.c_void_p),
        ("report_data", ctypes.c_void_p),
        ("report", ctypes.c_void_p),
    )


class QuoteArgument(ctypes.Structure):
    """The argument of `GEN_DCAP_QUOTE`."""

    _fields_ = (
        ("report_data", ctypes.c_void_p),
        ("quote_size", ctypes.c_void_p),
        ("quote", ctypes.c_void_p),
    )


class KeyArgument(ctypes.Structure):
    """The argument of `GET_KEY`."""

    _fields_ = (("request", ctypes.c_void_p), ("key", ctypes.c_void_p))


_WRITE, _READ = 1, 2


def _code(direction: int, number: int, size: int) -> int:
    """_IOC of asm-generic/ioctl.h: direction (2 bits), size (14), magic (8), number (8)."""
    return direction << 30 | size << 16 | ord("s") << 8 | number


class Request(IntEnum):
    """The request codes that we use."""

    SELF_TARGET = _code(_READ, 3, ctypes.sizeof(TargetInfo))
    CREATE_REPORT = _code(_READ | _WRITE, 4, ctypes.sizeof(CreateReportArgument))
    GET_DCAP_QUOTE_SIZE = _code(_READ, 7, ctypes.sizeof(ctypes.c_uint32))
    GEN_DCAP_QUOTE = _code(_READ | _WRITE, 8, ctypes.sizeof(QuoteArgument))
    GET_KEY = _code(_READ | _WRITE, 11, ctypes.sizeof(KeyArgument))
