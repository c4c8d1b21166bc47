"""Forms with a file: the model stands in a field of its own."""

from msgspec import Struct

from app.wire.asked import Asked
from app.wire.errors import bad_request
from app.wire.front import Incoming
from app.wire.multipart import Field, read_form

_READ_HERE = ("model", "provider", "stream")


class FormOptions(Struct, frozen=True):
    """What an upstream of the same wire needs of the body: its fields, in order."""

    fields: list[Field]


def glance(incoming: Incoming) -> Asked:
    """Raises GatewayError 400 for what is no form, and for a second model."""
    fields = read_form(incoming.body, incoming.headers.get("content-type", ""))
    said: dict[str, str] = {}
    for field in fields:
        name = field.name.lower()
        if name not in _READ_HERE:
            continue
        if name in said or name != field.name or field.file:
            raise bad_request(f"The form must hold one field {name}, as text.", name)
        said[name] = _text(field)
    return Asked(
        body=incoming.body,
        model=said.get("model", ""),
        provider=said.get("provider"),
        stream=said.get("stream", "").lower() in ("true", "1"),
        own_names=("provider",) if "provider" in said else (),
        options=FormOptions(fields),
        file_bytes=sum(len(field.value) for field in fields if field.file),
    )


def _text(field: Field) -> str:
    try:
        return bytes(field.value).decode()
    except UnicodeDecodeError:
        raise bad_request(f"The field {field.name} is not UTF-8.", field.name) from None
