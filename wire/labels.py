"""Every domain-separation label. No two uses of a key share one; docs/keys.md has a row for each."""

from typing import NewType

Label = NewType("Label", bytes)

GRANT = Label(b"chiron/v1/grant")
QUERY = Label(b"chiron/v1/query")
QUERY_SIGNATURE = Label(b"chiron/v1/query-signature")
ANSWER = Label(b"chiron/v1/answer")
REPORT = Label(b"chiron/v1/report")
OUTCOME = Label(b"chiron/v1/outcome")
DATASET = Label(b"chiron/v1/dataset")
MODEL = Label(b"chiron/v1/model")
CHECKPOINT = Label(b"chiron/v1/checkpoint")
TRAINER_CHECKPOINT = Label(b"chiron/v1/trainer-checkpoint")
LEADER_CHECKPOINT = Label(b"chiron/v1/leader-checkpoint")
LOG_HEAD = Label(b"chiron/v1/log-head")
UPGRADE = Label(b"chiron/v1/upgrade")
RECEIPT = Label(b"chiron/v1/receipt")
UPGRADE_ORDER = Label(b"chiron/v1/upgrade-order")
OWNER_SIGNING = Label(b"chiron/v1/owner-signing")
GRANT_NAME = Label(b"chiron/v1/grant-name")
GRANT_SIGNATURE = Label(b"chiron/v1/grant-signature")
OWNER_SHARE = Label(b"chiron/v1/owner-share")
OPENING = Label(b"chiron/v1/opening")
OPENING_SIGNATURE = Label(b"chiron/v1/opening-signature")
STATEMENT = Label(b"chiron/v1/statement")
SHARD_SHARE = Label(b"chiron/v1/shard-share")
SHARD_CHECKPOINT = Label(b"chiron/v1/shard-checkpoint")
MACHINE = Label(b"chiron/v1/machine")
MACHINE_KEY = Label(b"chiron/v1/machine-key")
MACHINE_NONCE = Label(b"chiron/v1/machine-nonce")
SETTLEMENT = Label(b"chiron/v1/settlement")
SETTLEMENT_SIGNATURE = Label(b"chiron/v1/settlement-signature")


def bind(label: Label, context: bytes) -> bytes:
    """Label and context as one unambiguous string: labels hold no zero byte."""
    return label + b"\0" + context
