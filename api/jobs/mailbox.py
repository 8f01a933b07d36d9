"""One enclave's mailbox: owners' messages wait in it, each for one answer. In memory only."""

import asyncio
import secrets
from collections import deque

from chiron.api.errors import EnclaveGone, EnclaveTimeout, MailboxFull, MessageUnknown
from chiron.wire.enclave_api import EvidenceRequest, Mail, MailKind, MailReply, SealedMessage
from chiron.wire.grants import UpgradeMail

_REMEMBERED = 256
"""Messages over and done with whose late or repeated answers are taken in silence."""


class Mailbox:
    """Bounded; the owner's first, in their order. One whose delivery failed goes back to the front."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: deque[Mail] = deque()
        self._others: set[str] = set()
        """Ids of messages that are not of the job's owner."""
        self._answers: dict[str, asyncio.Future[MailReply]] = {}
        self._answered: deque[str] = deque(maxlen=_REMEMBERED)
        self._arrived = asyncio.Event()
        self._closed = False

    async def ask(
        self,
        kind: MailKind,
        *,
        seconds: float,
        evidence: EvidenceRequest | None = None,
        message: SealedMessage | None = None,
        upgrade: UpgradeMail | None = None,
        owners: bool = True,
    ) -> MailReply:
        """Leave a message and wait for the enclave's answer to it.

        Those that are not of the job's owner may fill half of the mailbox, and stand behind hers.

        Raises:
            MailboxFull: too many are waiting.
            EnclaveTimeout: no answer in `seconds`.
            EnclaveGone: the enclave ended first.
        """
        if self._closed:
            raise EnclaveGone("the enclave has ended")
        if len(self._answers) >= self._capacity:
            raise MailboxFull("too many messages wait for this enclave")
        if not owners and len(self._others) >= self._capacity // 2:
            raise MailboxFull("too many messages wait for this enclave, of others than the job's owner")
        mail = Mail(id=secrets.token_hex(16), kind=kind, evidence=evidence, message=message, upgrade=upgrade)
        answer: asyncio.Future[MailReply] = asyncio.get_running_loop().create_future()
        self._answers[mail.id] = answer
        if owners:
            ahead = sum(each.id not in self._others for each in self._waiting)
            self._waiting.insert(ahead, mail)
        else:
            self._others.add(mail.id)
            self._waiting.append(mail)
        self._arrived.set()
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise EnclaveTimeout("the enclave did not answer in time") from None
        finally:
            del self._answers[mail.id]
            self._others.discard(mail.id)
            self._answered.append(mail.id)
            if mail in self._waiting:
                self._waiting.remove(mail)

    async def take(self, seconds: float) -> Mail | None:
        """The next message, or None if none arrives in `seconds`.

        Raises:
            EnclaveGone: the enclave has ended, and this is not it any more.
        """
        try:
            async with asyncio.timeout(seconds):
                while not self._waiting:
                    if self._closed:
                        raise EnclaveGone("the enclave has ended")
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return None
        return self._waiting.popleft()

    def put_back(self, mail: Mail) -> None:
        """A taken message could not be handed over: it is the next one again, if it is still waited for."""
        if mail.id in self._answers:
            self._waiting.appendleft(mail)
            self._arrived.set()

    def answer(self, mail_id: str, reply: MailReply) -> None:
        """The enclave's answer. The first one counts; one that comes late or twice is no error.

        Raises:
            MessageUnknown: this enclave was never asked that.
        """
        waiting = self._answers.get(mail_id)
        if waiting is None and mail_id not in self._answered:
            raise MessageUnknown("this enclave was asked nothing of this id")
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def close(self) -> None:
        """The enclave has ended: whoever waits is told."""
        self._closed = True
        self._waiting.clear()
        self._arrived.set()
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(EnclaveGone("the enclave has ended"))
