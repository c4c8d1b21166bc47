"""One answer in every framing that ChatGPT web has, byte for byte as each is known."""

import base64
import json
from typing import Any

C1 = "00000000-0000-4000-8000-0000000000c1"
U1 = "00000000-0000-4000-8000-0000000000f1"
A1 = "00000000-0000-4000-8000-0000000000a1"
A2 = "00000000-0000-4000-8000-0000000000a2"


def message(
    id: str = A2,
    role: str = "assistant",
    parts: list[Any] | None = None,
    status: str = "in_progress",
    end_turn: bool | None = None,
    content: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    metadata = {"model_slug": "gpt-4o", "default_model_slug": "auto", "parent_id": U1, "pad": "AA"}
    metadata |= more.pop("metadata", {})
    return {
        "id": id,
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": 1717243200.5,
        "update_time": None,
        "content": content or {"content_type": "text", "parts": [""] if parts is None else parts},
        "status": status,
        "end_turn": end_turn,
        "weight": 1.0,
        "metadata": metadata,
        "recipient": "all",
        "channel": None,
        **more,
    }


def snapshot(message: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    return {"message": message, "conversation_id": C1, "error": None, **more}


def event(data: Any, name: str = "") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


FINISHED = {"finish_details": {"type": "stop", "stop_tokens": [100260]}, "is_complete": True}
HIDDEN = message(
    id="00000000-0000-4000-8000-000000000001",
    role="system",
    status="finished_successfully",
    end_turn=True,
    metadata={"is_visually_hidden_from_conversation": True},
)
CONTEXT = message(
    id="00000000-0000-4000-8000-000000000002",
    role="user",
    content={"content_type": "user_editable_context", "user_profile": "secret"},
    status="finished_successfully",
)
ECHO = message(id=U1, role="user", parts=["hello"], status="finished_successfully")
TAIL = [
    {"type": "title_generation", "title": "Greeting", "conversation_id": C1},
    {
        "conversation_id": C1,
        "message_id": A2,
        "is_completion": True,
        "moderation_response": {"flagged": False, "blocked": False, "moderation_id": "modr-1"},
    },
]
PIECES = ["Hi", " th\u00e9re", " \U0001f468\u200d\U0001f469!", "\n\nBye."]


def ended(text: str, **more: Any) -> dict[str, Any]:
    return message(
        parts=[text],
        status="finished_successfully",
        end_turn=True,
        **{"metadata": FINISHED} | more,
    )


def snapshots(pieces: list[str] = PIECES) -> bytes:
    """Framing 1: the whole text so far in every event."""
    out = [event(snapshot(m)) for m in (HIDDEN, CONTEXT, ECHO, message())]
    out += [event(snapshot(message(parts=["".join(pieces[: n + 1])]))) for n in range(len(pieces))]
    out.append(event(snapshot(ended("".join(pieces)))))
    out += [event(control) for control in TAIL]
    return b"".join(out) + b"data: [DONE]\n\n"


def deltas(pieces: list[str] = PIECES, names: bool = True) -> bytes:
    """Framing 2: patches, with the echo on channels of their own."""
    name = "delta" if names else ""
    out = [event('"v1"', "delta_encoding" if names else "")]
    out.append(event({"p": "", "o": "add", "v": snapshot(HIDDEN), "c": 0}, name))
    out.append(event({"v": snapshot(ECHO), "c": 1}, name))
    out.append(event({"v": snapshot(message(), error_code=None), "c": 2}, name))
    first, *rest, last = pieces
    out.append(event({"p": "/message/content/parts/0", "o": "append", "v": first}, name))
    out.append(b": ping - 2025-03-06 19:22:41.128196+00:00\n\n")
    out += [event({"v": piece}, name) for piece in rest]
    patch = [
        {"p": "/message/content/parts/0", "o": "append", "v": last},
        {"p": "/message/status", "o": "replace", "v": "finished_successfully"},
        {"p": "/message/end_turn", "o": "replace", "v": True},
        {"p": "/message/metadata", "o": "append", "v": FINISHED},
    ]
    out.append(event({"p": "", "o": "patch", "v": patch}, name))
    out.append(event({"type": "message_stream_complete", "conversation_id": C1}))
    out += [event(control) for control in TAIL]
    return b"".join(out) + b"data: [DONE]\n\n"


ELSEWHERE = {
    "wss_url": "wss://upstream.example/client/hubs/conversations?access_token=eyJ.s3cret.x",
    "expires_at": "2024-05-01T05:00:00.000000+00:00",
    "conversation_id": C1,
    "response_id": "r1",
    "websocket_request_id": "w1",
}


def frames(
    sse: bytes, wrapped: bool, others: bool = True, conversation_id: str = C1
) -> list[bytes]:
    """Framing 3: the SSE of framing 1, one event per message, base64 in JSON."""
    out: list[dict[str, Any]] = []
    if wrapped:
        out.append(
            {
                "type": "system",
                "event": "connected",
                "userId": "user-1",
                "connectionId": "x",
                "reconnectionToken": "t",
            }
        )
    events = [piece + b"\n\n" for piece in sse.split(b"\n\n") if piece]
    bodies = [(base64.b64encode(piece).decode(), conversation_id, "r1") for piece in events]
    if others:  # of another answer of the same account
        stranger = base64.b64encode(event(snapshot(message(id="x", parts=["NOT YOURS"])))).decode()
        bodies[2:2] = [(stranger, "another", "r2"), (stranger, conversation_id, "r2")]
    for number, (body, conversation, response) in enumerate(bodies, 1):
        data = {
            "type": "http.response.body",
            "body": body,
            "more_body": number < len(bodies),
            "response_id": response,
            "conversation_id": conversation,
        }
        if wrapped:
            data = {
                "sequenceId": number,
                "type": "message",
                "from": "server",
                "dataType": "json",
                "data": data,
            }
        out.append(data)
    return [json.dumps(frame).encode() for frame in out]
