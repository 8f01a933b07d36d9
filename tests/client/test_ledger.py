"""The owner's ledger: nothing that is lent is forgotten, however many lend at once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chiron import OwnerStore
from chiron.client.ledger import MAX_LOANS, Ledger, Ledgers, Loan

JOB = "ab" * 16
KEY = "cd" * 32


def _loan(number: int, **changes: object) -> Loan:
    honest = {
        "number": number,
        "predictor_key_sha256": KEY,
        "tls_key_sha256": "ef" * 32,
        "rows": 10,
        "until": 2**31,
    }
    return Loan.model_validate(honest | changes)


def test_processes_and_threads_that_ask_at_once_lose_no_count(tmp_path: Path) -> None:
    store = OwnerStore(tmp_path)
    program = (
        "import sys; from pathlib import Path; from chiron import OwnerStore\n"
        "from chiron.client.ledger import Ledgers\n"
        "for _ in range(20):\n"
        f"    with Ledgers(OwnerStore(Path(sys.argv[1]))).changing('{JOB}') as change:\n"
        f"        change.ledger = change.ledger.asked_for(1, '{KEY}')\n"
    )
    Ledgers(store).begin(JOB)
    others = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(2)]

    def ask(_: int) -> None:
        with Ledgers(store).changing(JOB) as change:
            change.ledger = change.ledger.asked_for(1, KEY)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(20)))
    assert [other.wait(60) for other in others] == [0, 0]
    assert Ledgers(store).read(JOB).spent == 60


def test_an_error_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    ledgers = Ledgers(OwnerStore(tmp_path))
    ledgers.begin(JOB)
    ledgers.budget(JOB, 7)
    with pytest.raises(ZeroDivisionError), ledgers.changing(JOB) as change:
        change.ledger = Ledger(budget=1 // 0)
    assert ledgers.read(JOB).budget == 7


def test_rows_lent_under_passes_are_spent_until_they_are_settled() -> None:
    ledger = Ledger(budget=100).lent(_loan(1, passes={JOB: 30})).asked_for(5, KEY)
    assert (ledger.spent, ledger.left, ledger.pass_spent(JOB)) == (35, 65, 30)


def test_a_loan_that_nobody_settles_is_spent_for_good() -> None:
    ledger = Ledger(budget=1000).lent(_loan(1, passes={JOB: 30}, asked=4))
    for number in range(2, MAX_LOANS + 3):
        ledger = ledger.lent(_loan(number))
    assert len(ledger.loans) == MAX_LOANS
    assert (ledger.spent, ledger.asked, ledger.passes) == (34, 4, {JOB: 30})
