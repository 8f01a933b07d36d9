"""The published interface is the one that is served."""

from typing import Any

from chiron.api.applications import ENCLAVE, PUBLIC
from tests.api.conftest import Party


def references(node: Any) -> list[str]:
    """Every `$ref` in the document."""
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


async def test_the_document_names_every_operation_and_no_other(world: Party) -> None:
    document = (await world.nobody("GET", "/openapi.json")).json
    written = sum(len(operations) for operations in document["paths"].values())
    assert document["openapi"] == "3.1.0"
    assert written == len(PUBLIC)
    assert "/v1/jobs/{id}/events" in document["paths"]
    assert not any("/enclave/" in path for path in document["paths"])


async def test_every_reference_in_it_leads_somewhere(world: Party) -> None:
    document = (await world.nobody("GET", "/openapi.json")).json
    found = references(document)
    assert len(found) > 20
    for reference in found:
        node = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


async def test_it_says_what_the_validation_says(world: Party) -> None:
    document = (await world.nobody("GET", "/openapi.json")).json
    create = document["paths"]["/v1/jobs"]["post"]
    schema = create["requestBody"]["content"]["application/json"]["schema"]
    request = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    assert request["properties"]["trainers"]["maximum"] == 1024
    assert request["additionalProperties"] is False
    assert create["x-roles"] == ["owner"]


async def test_everything_but_the_service_itself_needs_a_key() -> None:
    assert {operation.path for operation in PUBLIC if not operation.roles} == {
        "/healthz",
        "/openapi.json",
    }
    assert all(operation.roles for operation in ENCLAVE)
    assert all(operation.path.startswith("/enclave/v1/") for operation in ENCLAVE)


async def test_each_operation_has_a_name_of_its_own_and_says_what_it_does() -> None:
    for table in (PUBLIC, ENCLAVE):
        names = [operation.handler.__name__ for operation in table]
        assert len(set(names)) == len(names)
        assert all(operation.summary.endswith(".") for operation in table)
