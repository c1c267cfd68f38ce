"""
Hold requests and answers against Azure's published specifications, so that what Azure would refuse fails a test.

The documents are OpenAPI 3; each is one api-version of a part of a resource provider. Unknown keys of a request are faults
too: Azure refuses or drops them, and either is a mistake of ours.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

CONTRACTS = Path(__file__).parents[3] / "shared" / "contracts"


def contract(name: str) -> Path:
    """Find a published specification, or skip the test that needs it."""
    path = CONTRACTS / name
    if not path.exists():
        pytest.skip(f"the published specification {name} is not beside this checkout")
    return path


@dataclass(frozen=True)
class Operation:
    method: str
    template: str
    pattern: re.Pattern[str]
    document: dict[str, Any] = field(repr=False)


class Specification:
    """One published document."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.document: dict[str, Any] = json.loads(contract(name).read_text())
        self.version: str = self.document["info"]["version"]
        self._validators: dict[str, OAS30Validator] = {}

    @cached_property
    def operations(self) -> list[Operation]:
        found = []
        for template, item in self.document["paths"].items():
            escaped = re.sub(r"\\\{[^}]+\\\}", "[^/]+", re.escape(template))
            pattern = re.compile(escaped + "/?", re.IGNORECASE)
            methods = [method for method in ("get", "put", "post", "patch", "delete") if method in item]
            found += [Operation(method, template, pattern, item[method]) for method in methods]
        return found

    def operation(self, method: str, path: str) -> Operation | None:
        for each in self.operations:
            if each.method == method.lower() and each.pattern.fullmatch(path):
                return each
        return None

    def faults_of_request(self, method: str, path: str, query: dict[str, str], body: Any) -> list[str]:
        """Name what this specification finds wrong with a request; nothing where it knows no such operation."""
        operation = self.operation(method, path)
        if operation is None:
            return []
        wanted = [self._resolved(item) for item in operation.document.get("parameters", [])]
        queries = {item["name"] for item in wanted if item["in"] == "query"}
        faults = [f"unknown query parameter '{name}'" for name in query if name not in queries]
        faults += [
            f"query parameter '{item['name']}' is missing"
            for item in wanted
            if item["in"] == "query" and item.get("required") and item["name"] not in query
        ]
        content = self._resolved(operation.document.get("requestBody", {})).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        if schema is not None:
            faults += self._faults(schema, body, strict=True)
        return [f"{method} {path}: {fault} ({self.name})" for fault in faults]

    def faults_of_answer(self, method: str, path: str, status: int, body: Any) -> list[str]:
        operation = self.operation(method, path)
        if operation is None:
            return []
        answers = operation.document["responses"]
        # What goes well is listed by its status; `default` is how Azure tells what goes wrong.
        described = answers.get(str(status)) or (answers.get("default") if status >= HTTPStatus.BAD_REQUEST else None)
        if described is None:
            return [f"{method} {path}: status {status} is not one that Azure answers ({self.name})"]
        schema = self._resolved(described).get("content", {}).get("application/json", {}).get("schema")
        faults = self._faults(schema, body, strict=False) if schema is not None else []
        return [f"answer {status} to {method} {path}: {fault} ({self.name})" for fault in faults]

    def _resolved(self, item: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in item:
            found: Any = self.document
            for part in item["$ref"].removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            item = found
        return item

    def _faults(self, schema: dict[str, Any], value: Any, *, strict: bool) -> list[str]:
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            resource = Resource(contents=self.document, specification=DRAFT4)
            registry: Registry[Any] = Registry().with_resource("urn:spec", resource)
            self._validators[key] = OAS30Validator(_absolute(schema), registry=registry)
        faults = []
        for error in self._validators[key].iter_errors(value):
            place = ".".join(str(part) for part in error.absolute_path) or "body"
            faults.append(f"{place}: {error.message[:300]}")
        if strict:
            faults += [f"unknown key '{place}'" for place in self._unknown(schema, value, "")]
        return faults

    def _unknown(self, schema: dict[str, Any], value: Any, place: str) -> list[str]:
        """Find keys that no reading of the schema knows."""
        if isinstance(value, list):
            items = self._resolved(schema).get("items", {})
            return [
                found for number, item in enumerate(value) for found in self._unknown(items, item, f"{place}[{number}]")
            ]
        if not isinstance(value, dict):
            return []
        known, free = self._properties(schema, value)
        if free is True:
            return []
        unknown = []
        for key, item in value.items():
            inner = f"{place}.{key}" if place else key
            if key in known:
                unknown += self._unknown(known[key], item, inner)
            elif isinstance(free, dict):
                unknown += self._unknown(free, item, inner)
            else:
                unknown.append(inner)
        return unknown

    def _properties(self, schema: dict[str, Any], value: Any) -> tuple[dict[str, Any], Any]:
        """Collect the properties of a schema and its parents, following the branch that the value chooses."""
        schema = self._resolved(schema)
        known = dict(schema.get("properties", {}))
        free: Any = schema.get("additionalProperties", None)
        for part in schema.get("allOf", []):
            more, freer = self._properties(part, value)
            known |= more
            free = free if free is not None else freer
        branches = [*schema.get("oneOf", []), *schema.get("anyOf", [])]
        if branches:
            fitting = [branch for branch in branches if not self._faults(branch, value, strict=False)] or branches
            for branch in fitting:
                more, freer = self._properties(branch, value)
                known |= more
                free = free if free is not None else freer
        if not known and free is None and not branches:
            free = True
        return known, free


def _absolute(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: f"urn:spec{item}" if key == "$ref" and item.startswith("#") else _absolute(item)
            for key, item in schema.items()
        }
    return [_absolute(item) for item in schema] if isinstance(schema, list) else schema
