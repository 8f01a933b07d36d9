"""The workflows for GitHub cannot run here. This holds that they call what exists, and pin what they use."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.documents import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")

NOT_THE_CLIENTS = ("chiron.api", "chiron.builder_kit", "chiron.enclave_image", "chiron.ps")


def _imported(path: Path) -> set[str]:
    """The modules that a test imports, and those that our modules for tests import for it."""
    found: set[str] = set()
    for module in re.findall(r"^(?:from|import) ((?:chiron|tests)[\w.]*)", path.read_text(), re.MULTILINE):
        found.add(module)
        if module.startswith("tests."):
            found |= _imported(ROOT / f"{module.replace('.', '/')}.py")
    return found


def _read(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text())
    return found


def _jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = _read(path)["jobs"]
    return found


def _commands(path: Path) -> str:
    return "\n".join(step.get("run", "") for job in _jobs(path).values() for step in job["steps"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_says_that_it_was_never_run(path: Path) -> None:
    assert path.read_text().startswith("# Never run yet")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    for line in path.read_text().splitlines():
        assert "uses:" not in line or PINNED.search(line), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_jobs_may_do_no_more_than_they_say_and_end(path: Path) -> None:
    assert _read(path)["permissions"] == {}
    for job in _jobs(path).values():
        assert job["timeout-minutes"] <= 90
        for step in job["steps"]:
            assert "run" in step or "uses" in step
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_workflows_call_exists(path: Path) -> None:
    for name in re.findall(r"(?<![\w/.])(?:scripts|tests)/[\w./]+", _commands(path)):
        assert (ROOT / name).exists(), name


def test_ci_runs_what_everybody_runs_on_both_pythons() -> None:
    test = _jobs(ROOT / ".github" / "workflows" / "ci.yml")["test"]
    assert test["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
    assert [step["run"] for step in test["steps"] if step.get("run", "").startswith("scripts/")] == [
        "scripts/check",
        "scripts/test",
        "scripts/docs",
    ]


def test_the_client_is_tested_where_there_is_no_linux() -> None:
    client = _jobs(ROOT / ".github" / "workflows" / "ci.yml")["client"]
    assert client["strategy"]["matrix"]["system"] == ["macos-latest", "windows-latest"]
    tests = re.findall(r"tests/client/\w+\.py", "\n".join(step.get("run", "") for step in client["steps"]))
    assert tests
    for name in tests:
        beyond = [module for module in _imported(ROOT / name) if module.startswith(NOT_THE_CLIENTS)]
        assert not beyond, f"{name}: {beyond}"


def test_only_the_signing_job_may_sign_and_publish() -> None:
    jobs = _jobs(ROOT / ".github" / "workflows" / "release.yml")
    assert jobs["build"]["permissions"] == {"contents": "read"}
    assert jobs["publish"]["permissions"] == {"contents": "write", "id-token": "write"}
    assert not any(
        "checkout" in step.get("uses", "") for step in jobs["publish"]["steps"]
    )  # no code of the tag runs


def test_dependabot_keeps_the_actions() -> None:
    kept = [update["package-ecosystem"] for update in _read(ROOT / ".github" / "dependabot.yml")["updates"]]
    assert "github-actions" in kept


def test_pre_commit_calls_the_check() -> None:
    (repository,) = _read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == ["scripts/check"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda path: path.name
)
def test_issue_forms_have_what_github_asks_of_them(path: Path) -> None:
    form = _read(path)
    assert {"name", "description", "body"} <= form.keys()
    for field in form["body"]:
        assert field["type"] in {"markdown", "textarea", "dropdown", "input", "checkboxes"}
        assert field["type"] == "markdown" or {"id", "attributes"} <= field.keys()
