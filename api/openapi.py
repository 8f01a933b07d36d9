"""The OpenAPI 3.1 document, from the route table and the pydantic models that validate the requests."""

import json
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from chiron.api.operations import Operation
from chiron.api.paging import USUAL
from chiron.wire.codes import PROBLEM_CONTENT_TYPE, Problem
from chiron.wire.public_api import MAX_CURSOR_CHARACTERS, Page

_SCHEMAS = "#/components/schemas/"
_PAGING: list[dict[str, Any]] = [
    {
        "name": "limit",
        "in": "query",
        "description": "Items of a page, at most",
        "schema": {"type": "integer", "minimum": 1, "default": USUAL},
    },
    {
        "name": "cursor",
        "in": "query",
        "description": "The `next` of the page before; without it, the first page",
        "schema": {"type": "string", "maxLength": MAX_CURSOR_CHARACTERS},
    },
]


def document(operations: Sequence[Operation]) -> bytes:
    """The document as JSON."""
    references, definitions = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path.template, {})[operation.method.lower()] = _operation(
            operation, references
        )
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Chiron gateway", "version": "1"},
            "paths": paths,
            "components": {
                "schemas": definitions,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    ).encode()


def _operation(operation: Operation, references: dict[Any, Any]) -> dict[str, Any]:
    answers: dict[str, Any] = {
        str(operation.status): _answer(operation, references),
        "default": {
            "description": "A problem with a stable code (RFC 9457)",
            "content": {PROBLEM_CONTENT_TYPE: {"schema": references[Problem, "serialization"]}},
        },
    }
    described: dict[str, Any] = {
        "operationId": operation.handler.__name__,
        "summary": operation.summary,
        "parameters": [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": f"^(?:{pattern})$"},
            }
            for name, pattern in operation.path.variables
        ]
        + (_PAGING if _is_paged(operation) else []),
        "responses": answers,
        "security": [{"key": []}] if operation.roles else [],
    }
    if operation.roles:
        described["x-roles"] = sorted(operation.roles)
    body = _body(operation, references)
    if body is not None:
        described["requestBody"] = {"required": True, "content": body}
    return described


def _is_paged(operation: Operation) -> bool:
    return isinstance(operation.answer, type) and issubclass(operation.answer, Page)


def _body(operation: Operation, references: dict[Any, Any]) -> dict[str, Any] | None:
    if operation.body is not None:
        return {"application/json": {"schema": references[operation.body, "validation"]}}
    if operation.streams is not None:
        return {operation.streams: {}}
    return None


def _answer(operation: Operation, references: dict[Any, Any]) -> dict[str, Any]:
    answer = operation.answer
    if answer is None:
        return {"description": "Done"}
    if isinstance(answer, str):
        return {"description": operation.summary, "content": {answer: {}}}
    item = _item(answer)
    schema = references[item, "serialization"]
    if item is not answer:
        schema = {"type": "array", "items": schema}
    return {"description": operation.summary, "content": {"application/json": {"schema": schema}}}


def _schemas(operations: Sequence[Operation]) -> tuple[dict[Any, Any], dict[str, Any]]:
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(Problem, "serialization"): None}
    for operation in operations:
        if operation.body is not None:
            wanted[operation.body, "validation"] = None
        if operation.answer is not None and not isinstance(operation.answer, str):
            wanted[_item(operation.answer), "serialization"] = None
    references, schema = models_json_schema(list(wanted), ref_template=_SCHEMAS + "{model}")
    return dict(references), schema.get("$defs", {})


def _item(answer: Any) -> Any:
    arguments = typing.get_args(answer)
    return arguments[0] if arguments else answer
