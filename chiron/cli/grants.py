"""Which capabilities a builder is given: what the owner named, or what the owner agrees to when asked."""

from collections.abc import Iterable, Sequence

from chiron.client.errors import ConfigurationInvalid
from chiron.wire.contract import Capability, CapabilityGrants

HARMLESS = CapabilityGrants().granted | {Capability.RANDOM}
"""These tell a builder nothing of the data's values, so `--yes` alone may grant them."""


def agreed_capabilities(
    wanted: Iterable[Capability], named: Sequence[Capability] | None, sample_examples: int, *, may_ask: bool
) -> CapabilityGrants:
    """The grants for a builder that imports `wanted`. Where nothing is named and nobody can be asked, no
    capability that shows data is given.

    Raises:
        ConfigurationInvalid: the builder needs what is not granted; it could not run.
    """
    needed = frozenset(wanted)
    granted = frozenset(named) if named is not None else needed
    if missing := needed - granted:
        raise ConfigurationInvalid(
            f"the builder needs {_list(missing)}, which you do not grant: it could not run",
            code="capability-not-granted",
        )
    if named is None and not may_ask and (telling := needed - HARMLESS):
        raise ConfigurationInvalid(
            f"the builder asks for {_list(telling)}, which shows it something of your data: grant it by name "
            f"({' '.join(f'--grant {name}' for name in sorted(telling))}), or leave out --yes to be asked",
            code="capability-not-granted",
        )
    sampled = sample_examples if Capability.DATASET_SAMPLE in granted else 0
    return CapabilityGrants(granted=granted, sample_examples=sampled)


def _list(capabilities: Iterable[Capability]) -> str:
    return ", ".join(sorted(capabilities))
