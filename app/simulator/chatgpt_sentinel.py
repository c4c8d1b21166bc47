"""ChatGPT's guard: gives out a token once, and checks the proof of work that comes with it."""

import base64
import binascii
import hashlib
import secrets
import time

import msgspec
from msgspec import Struct
from sanic import Blueprint, HTTPResponse, Request

from app.simulator.chatgpt_common import JSON, answer, check_request, cookies_of, detail, token_of

MAX_KEPT = 5000
TOKEN_SECONDS = 540  # seconds a guard's token lives
DIFFICULTY = "0fffff"
HARDER = (("hardest", "000032"), ("hard", "000fff"))  # words of a token: seconds of work, and less

blueprint = Blueprint("chatgpt-sentinel", url_prefix="/chatgpt")


class IssuedToken(Struct):
    """A requirements token: valid once, for the same account and device."""

    account: str
    device: str
    seed: str
    difficulty: str
    arkose: bool
    turnstile: bool
    made_at: float


issued: dict[str, IssuedToken] = {}
arkose_used: set[str] = set()


async def requirements(request: Request) -> HTTPResponse | None:
    """Issues a requirements token with a proof-of-work puzzle."""
    _, refused = await check_request(request)
    if refused:
        return refused
    device = request.headers.get("oai-device-id", "")
    if not device or cookies_of(request).get("oai-did") != device:
        return detail(401, "Unauthorized")
    asked = request.json if isinstance(request.json, dict) else {}
    p = asked.get("p")
    if p is not None and not str(p).startswith("gAAAAAC"):
        return detail(422, [{"loc": ["body", "p"], "msg": "no requirements token", "type": "x"}])
    token = token_of(request)
    made = IssuedToken(
        account=token,
        device=device,
        seed=str(secrets.randbelow(10**16) / 10**16),
        difficulty=next((how for word, how in HARDER if word in token), DIFFICULTY),
        arkose="arkose" in token,
        turnstile="turnstile" in token,
        made_at=time.time(),
    )
    name = "gAAAAAB" + secrets.token_urlsafe(40)
    issued[name] = made
    if len(issued) > MAX_KEPT:
        del issued[next(iter(issued))]
    said: JSON = {
        "persona": "chatgpt-paid" if token and "noauth" not in token else "chatgpt-noauth",
        "token": name,
        "expire_after": TOKEN_SECONDS,
        "force_login": "x-sim-login" in request.headers,
        "turnstile": {"required": made.turnstile, "dx": "x"},
        "proofofwork": {"required": True, "seed": made.seed, "difficulty": made.difficulty},
        "so": {"required": True, "collector_dx": "x"},
    }
    if made.arkose:
        said["arkose"] = {"required": True, "dx": "x"}
    cookies = [
        ("set-cookie", f"oai-sc={name[-12:]}; Path=/; Secure; HttpOnly"),
        ("set-cookie", "__cf_bm=simulated; Path=/; Max-Age=1800; HttpOnly"),
    ]
    return answer(said, cookies)


def sentinel_problem(request: Request) -> str | None:
    """Checks token, cookie, proof and arkose of a question; the reason to refuse it, or None."""
    headers = request.headers
    name = headers.get("openai-sentinel-chat-requirements-token", "")
    held = issued.pop(name, None)
    if held is None or time.time() - held.made_at > TOKEN_SECONDS:
        return "no requirements token"
    if held.account != token_of(request) or held.device != headers.get("oai-device-id"):
        return "another browser"
    if cookies_of(request).get("oai-sc") != name[-12:]:
        return "the guard's cookie is missing"
    agent = headers.get("user-agent", "")
    proof = headers.get("openai-sentinel-proof-token", "")
    if not is_valid_proof(proof, held.seed, held.difficulty, agent):
        return "wrong proof"
    if held.arkose:
        arkose = headers.get("openai-sentinel-arkose-token", "")
        if not arkose or arkose in arkose_used:
            return "no fresh arkose token"
        arkose_used.add(arkose)
    if held.turnstile and "strict" in held.account:
        return "no turnstile token"
    return None


def is_valid_proof(token: str, seed: str, difficulty: str, agent: str) -> bool:
    """Whether `token` is a proof of either generation for this seed and user agent."""
    if not token.startswith("gAAAAAB"):
        return False
    text = token[len("gAAAAAB") :]
    is_newer = text.endswith("~S")
    text = text.removesuffix("~S")
    try:
        array = msgspec.json.decode(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return False
    if not isinstance(array, list) or len(array) < 13 or array[4] != agent:
        return False
    said = (seed + text).encode()
    digest = _fnv(said) if is_newer else hashlib.sha3_512(said).hexdigest()
    return digest[: len(difficulty)] <= difficulty


def _fnv(data: bytes) -> str:
    h = 0x811C9DC5
    for byte in data:
        h = (h ^ byte) * 0x01000193 % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ h >> shift) * factor % 2**32
    return f"{h ^ h >> 16:08x}"


for _side in ("api", "anon"):
    blueprint.add_route(
        requirements,
        f"/backend-{_side}/sentinel/chat-requirements",
        methods=["POST"],
        name=f"requirements_{_side}",
    )
