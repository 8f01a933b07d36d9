"""Mailboxes: every message reaches one taker, and everybody who waits is told in the end."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.api.errors import EnclaveGone, EnclaveTimeout, MailboxFull, MessageUnknown
from chiron.api.jobs.mailbox import Mailbox
from chiron.wire.enclave_api import MailKind, MailReply, SealedMessage


def ask(box: Mailbox, content: bytes = b"x", seconds: float = 5) -> "asyncio.Task[MailReply]":
    message = SealedMessage(sealed=content)
    return asyncio.create_task(box.ask(MailKind.QUERY, seconds=seconds, message=message))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12))
async def test_each_answer_goes_to_its_own_question_whatever_is_lost_on_the_way(lost: list[bool]) -> None:
    box = Mailbox(20)
    asked = [ask(box, bytes([number + 1])) for number in range(len(lost))]
    await asyncio.sleep(0)
    for lose in lost:
        mail = await box.take(1)
        if mail and lose:
            box.put_back(mail)
            mail = await box.take(1)
        assert mail is not None
        assert mail.message is not None
        box.answer(mail.id, MailReply(message=SealedMessage(sealed=mail.message.sealed * 2)))
    answers = [await task for task in asked]
    assert [answer.message and answer.message.sealed for answer in answers] == [
        bytes([number + 1]) * 2 for number in range(len(lost))
    ]


async def test_a_question_that_timed_out_is_not_delivered_and_its_late_answer_harms_nobody() -> None:
    box = Mailbox(2)
    with pytest.raises(EnclaveTimeout):
        await ask(box, seconds=0.02)
    assert await box.take(0.02) is None
    asked = ask(box, seconds=0.05)
    mail = await box.take(1)
    assert mail is not None
    with pytest.raises(EnclaveTimeout):
        await asked
    box.answer(mail.id, MailReply())
    box.put_back(mail)
    assert await box.take(0.02) is None


async def test_an_answer_to_nothing_is_refused() -> None:
    with pytest.raises(MessageUnknown):
        Mailbox(1).answer("00" * 16, MailReply())


async def test_a_full_mailbox_takes_no_more_until_one_is_answered() -> None:
    box = Mailbox(1)
    first = ask(box)
    mail = await box.take(1)
    with pytest.raises(MailboxFull):
        await ask(box)
    assert mail is not None
    box.answer(mail.id, MailReply())
    await first
    second = ask(box)
    assert await box.take(1) is not None
    second.cancel()


async def test_when_the_enclave_ends_everybody_is_told() -> None:
    box = Mailbox(4)
    asked, taking = ask(box), asyncio.create_task(box.take(5))
    assert await taking is not None
    empty = asyncio.create_task(box.take(5))
    await asyncio.sleep(0)
    box.close()
    for waiting in (asked, empty, ask(box), asyncio.create_task(box.take(1))):
        with pytest.raises(EnclaveGone):
            await waiting


async def test_two_takers_never_get_the_same_message() -> None:
    box = Mailbox(10)
    takers = [asyncio.create_task(box.take(0.2)) for _ in range(5)]
    asked = [ask(box, seconds=0.3) for _ in range(3)]
    taken = [mail.id for mail in await asyncio.gather(*takers) if mail is not None]
    assert len(set(taken)) == len(taken) == 3
    assert all(
        isinstance(end, EnclaveTimeout) for end in await asyncio.gather(*asked, return_exceptions=True)
    )
