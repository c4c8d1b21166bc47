"""The OpenAPI document: valid, with every route, and none of the gateway's own members."""

import gzip
import hashlib
import re
from pathlib import Path

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from sanic import Sanic

from app.config.schema import Config, KeyEntry, OpenAI
from app.http import openapi
from app.process.server import create_app

SECRET = "sk-never-to-be-seen-1234"
VIEWER = Path(openapi.__file__).parent / "api_viewer"


@pytest.fixture(scope="module")
def app():
    app = create_app(Config(openai=OpenAI(api_keys=[KeyEntry("work", SECRET)])))
    yield app
    Sanic.unregister_app(app)


@pytest.fixture(scope="module")
def text(app):
    return openapi.document(app)


@pytest.fixture(scope="module")
def document(text):
    return msgspec.json.decode(text)


def test_it_is_a_valid_document(document):
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()


def test_it_has_every_route_of_the_gateway_and_no_other(app, document):
    registered = {
        (openapi.template(route), method.lower())
        for route in app.router.routes
        for method in route.methods
        if method != "HEAD"
    }
    told = {(path, method) for path, item in document["paths"].items() for method in item}
    assert told == registered


def test_each_row_of_operations_describes_a_route(app):
    described = {
        openapi.operation_of(openapi.template(route), method)
        for route in app.router.routes
        for method in set(route.methods) - {"HEAD"}
    }
    assert set(openapi.OPERATIONS) == described


def test_a_path_is_described_by_whole_segments():
    with pytest.raises(LookupError, match="GET /pinged"):
        openapi.operation_of("/pinged", "GET")


def test_ids_of_operations_are_unique(document):
    ids = [each["operationId"] for item in document["paths"].values() for each in item.values()]
    assert len(ids) == len(set(ids))


def test_bodies_have_the_members_a_caller_can_name(document):
    chat = document["components"]["schemas"]["ChatRequest"]
    assert chat["required"] == ["messages"]
    assert {"model", "stream", "tools", "temperature"} <= set(chat["properties"])
    google = document["components"]["schemas"]["GeminiBody"]["properties"]
    assert {"contents", "systemInstruction", "generationConfig"} <= set(google)
    for name, schema in document["components"]["schemas"].items():
        assert not [member for member in schema.get("properties", ()) if " " in member], name


def test_each_path_says_errors_in_the_shape_of_its_api(document):
    def error(path):
        answers = document["paths"][path]["post"]["responses"]
        schema = answers["default"]["content"]["application/json"]["schema"]
        return schema["$ref"].rpartition("/")[2]

    assert error("/c/v1/chat/completions") == error("/claude/api/openai") == "ErrorBody"
    assert error("/c/v1/messages") == "AnthropicError"
    assert error("/c/v1beta/models/{target}") == "GoogleError"


def test_no_secret_and_nothing_of_the_config_is_in_it(text):
    assert SECRET.encode() not in text and b"api.openai.com" not in text


def test_operators_routes_ask_for_the_operators_token(document):
    for path, item in document["paths"].items():
        for told in item.values():
            asked = any("operator" in each for each in told.get("security", ()))
            assert asked == path.startswith(("/admin", "/metrics")), path


def test_the_viewer_is_the_file_of_the_package_that_the_notice_names():
    notice = (VIEWER / "NOTICE-rapidoc.txt").read_text()
    script = gzip.decompress((VIEWER / "rapidoc-min.js.gz").read_bytes())
    assert re.search(r"rapidoc-min\.js: ([0-9a-f]{64})", notice)[1] == (
        hashlib.sha256(script).hexdigest()
    )
    assert b"RapiDoc 9.3.8" in script[:500]
