"""The picture of a turn: found in the request, checked, and uploaded to Bing.

Source: recorded requests and several independent clients.
"""

import base64
from urllib.parse import quote

import msgspec

from app.config.schema import Config
from app.wire.chat import ChatRequest
from app.wire.errors import GatewayError, bad_request
from app.wire.multipart import form_data
from app.wire.upstream import UpstreamReply, UpstreamRequest, join_url
from providers.bing import schema
from providers.bing.conversations import NewId, page_headers, proxy
from providers.bing.question import last_question

_UPLOAD_REFERER = "/search?q=Bing+AI&showconv=1&FORM=hpcodx"


def upload_request(
    config: Config, conversation_id: str, tone: str, picture: str, now: int, new_id: NewId
) -> UpstreamRequest:
    """Uploads a picture: a JPEG in base64, or a URL that Bing fetches itself."""
    remote = picture.startswith(("https://", "http://"))
    knowledge = {
        "imageInfo": {"url": picture} if remote else {},
        "knowledgeRequest": {
            "invokedSkills": ["ImageById"],
            "subscriptionId": "Bing.Chat.Multimodal",
            "invokedSkillsRequestData": {"enableFaceBlur": True},
            "convoData": {"convoid": conversation_id, "convotone": tone},
        },
    }
    fields = [('name="knowledgeRequest"', "", msgspec.json.encode(knowledge))]
    if not remote:
        fields.append(('name="imageBase64"', "", picture.encode()))
    boundary = f"----WebKitFormBoundary{new_id()[:16]}"
    return UpstreamRequest(
        method="POST",
        url=join_url(config.bing.web_url, "/images/kblob"),
        headers=[
            *page_headers(config, now, new_id, _UPLOAD_REFERER),
            ("origin", config.bing.web_url.rstrip("/")),
            ("content-type", f"multipart/form-data; boundary={boundary}"),
        ],
        body=form_data(boundary, fields),
        via="browser",
        proxy=proxy(config),
    )


def read_uploaded(config: Config, reply: UpstreamReply) -> str:
    """The URL of the uploaded picture, of the copy with blurred faces where there is one.

    Raises GatewayError 400 when Bing refused it.
    """
    try:
        uploaded = msgspec.json.decode(reply.body, type=schema.Uploaded)
    except (msgspec.DecodeError, UnicodeDecodeError):
        uploaded = schema.Uploaded()
    if reply.status != 200 or not uploaded.blob_id:
        raise GatewayError(
            400,
            f"Bing refused the picture (HTTP {reply.status}); try a smaller one.",
            param="bing.imageBase64",
            code="image_upload_failed",
        )
    id = uploaded.processed_blob_id or uploaded.blob_id
    return join_url(config.bing.web_url, f"/images/blob?bcid={quote(id, safe='')}")


def picture_of(chat: ChatRequest, image_base64: str) -> tuple[str, str]:
    """The place of the turn's picture in the request, and the picture; two "" for none.

    A picture is a JPEG in base64 or a URL. `image_base64` is the one of the `bing` member. Raises
    GatewayError 400 for a second picture, another format, or a part that is no text or image.
    """
    pictures = [("bing.imageBase64", image_base64)] if image_base64 else []
    i, message = last_question(chat)
    for j, part in enumerate(message.parts()):
        where = f"messages[{i}].content[{j}]"
        if part.type == "image_url":
            pictures.append((where, part.image_address()))
        elif part.type != "text":
            raise bad_request(
                f"Bing cannot be given a content part of type {part.type!r}.", param=f"{where}.type"
            )
    if len(pictures) > 1:
        raise bad_request("Bing takes one picture per turn.", param=pictures[1][0])
    if not pictures:
        return "", ""
    where, picture = pictures[0]
    if picture.startswith(("https://", "http://")) and where != "bing.imageBase64":
        return where, picture
    if picture.startswith("data:"):
        picture = picture.partition(",")[2]
    # A JPEG begins with FF D8 FF.
    if not picture.startswith("/9j/"):
        raise bad_request("Bing takes only JPEG pictures, in base64.", param=where)
    return where, picture


def is_base64(picture: str) -> bool:
    """Whether the text is valid base64. Slow for large pictures: runs on the CPU worker."""
    try:
        base64.b64decode(picture, validate=True)
    except ValueError:
        return False
    return True
