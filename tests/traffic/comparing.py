"""Whether a host could tell two jobs apart by anything it saw."""

import re
from itertools import zip_longest

from chiron.wire.attestation import Role
from chiron.wire.exchange import ExchangeMode
from tests.support.taps import SIGNATURE_SLACK_BYTES, Call, EnclaveTrace
from tests.traffic.world import View

_IDENTIFIER = re.compile(r"[0-9a-f]{32,64}")
_CERTIFIED = ("/enclave/v1/ready", "/enclave/v1/peers/parameter-server")
"""Bodies that hold a fresh certificate, whose random integers vary by some bytes in DER."""


def difference(one: View, other: View) -> str | None:
    """The first thing that differs, in words; None where all is the same."""
    if one.enclaves.keys() != other.enclaves.keys():
        return f"enclaves: {sorted(one.enclaves)} and {sorted(other.enclaves)}"
    # Without a barrier a server keeps its state in the order of the trainers' speed, and as often as ever.
    hasty = one.job.spec.exchange.mode is ExchangeMode.ASYNC
    for name, trace in one.enclaves.items():
        ordered = not hasty or name.startswith(Role.TRAINER)
        found = _between(trace, other.enclaves[name], ordered=ordered)
        if found is not None:
            return f"{name} {found}"
    if one.files != other.files:
        return f"storage: {one.files} and {other.files}"
    if _public(one) != _public(other):
        return f"the operator's side: {_public(one)} and {_public(other)}"
    return None


def _between(one: EnclaveTrace, other: EnclaveTrace, *, ordered: bool) -> str | None:
    for call, twin in zip_longest(*(_calls(trace, ordered=ordered) for trace in (one, other))):
        if not _same_call(call, twin):
            return f"calls {call} and {twin}"
    if one.connections.keys() != other.connections.keys():
        return f"speaks to {list(one.connections)} and {list(other.connections)}"
    for peer, connections in one.connections.items():
        twins = other.connections[peer]
        if len(connections) != len(twins):
            return f"opens {len(connections)} and {len(twins)} connections to {peer}"
        for number, (a, b) in enumerate(zip(connections, twins, strict=True)):
            if not a.equals(b):
                return f"connection {number} to {peer}: {a} and {b}"
    if (one.log_lines, one.exit_code) != (other.log_lines, other.exit_code):
        return f"ends {one.log_lines, one.exit_code} and {other.log_lines, other.exit_code}"
    return None


def _calls(trace: EnclaveTrace, *, ordered: bool) -> list[Call]:
    """All but polls that brought nothing: how many there are follows from how long things take."""
    calls = [call for call in trace.calls if "wait=" not in call.path or call.received]
    return calls if ordered else sorted(calls, key=lambda call: (call.method, call.path, call.sent))


def _same_call(call: Call | None, twin: Call | None) -> bool:
    if call is None or twin is None:
        return False
    if (call.method, call.path, call.status) != (twin.method, twin.path, twin.status):
        return False
    slack = SIGNATURE_SLACK_BYTES if call.path.startswith(_CERTIFIED) else 0
    return max(abs(call.sent - twin.sent), abs(call.received - twin.received)) <= slack


def _public(view: View) -> list[tuple[str, ...]]:
    """What the gateway noted, without identifiers, and the job's public state.

    Sorted: each enclave's own order is that of its calls, and the order between two follows from their speed.
    """
    seen = [(item.kind, _IDENTIFIER.sub("ID", item.name), str(item.size)) for item in view.observations]
    return [*sorted(seen), (view.job.state, str(view.job.exchanges_done), str(view.job.failure))]
