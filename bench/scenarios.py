"""The loads. `family` is who the upstream plays; streams have `chunks` content chunks each."""

from msgspec import Struct


class Scenario(Struct, frozen=True):
    """One load. `family` is the API that the upstream speaks, `path` the gateway's route, in which
    `{model}` is the model's name."""

    name: str
    note: str
    family: str = "openai"
    connections: int = 16
    chunks: int = 0  # 0: not streamed
    delay_ms: int = 0  # between chunks
    streams: int = 0  # 0: as many as fit into the time
    tls: bool = False  # to the upstream
    path: str = "/c/v1/chat/completions"
    frames: str = ""  # of a websocket: text, sound, or sound upward; `chunks` of them


MESSAGES = "/c/v1/messages"
REALTIME = "/v1/realtime?model=bench"
GEMINI = "/c/v1beta/models/{model}:streamGenerateContent?alt=sse"
RESPONSES = "/c/v1/responses"
SCENARIOS = (
    Scenario("S1", "OpenAI to OpenAI, not streamed, 32 connections", connections=32),
    Scenario("S2", "OpenAI to OpenAI, streams of 100 chunks, 16 connections", chunks=100),
    Scenario("S3", "OpenAI in, Anthropic upstream, as S2", "claude", chunks=100),
    Scenario("S4", "OpenAI in, Gemini upstream, as S2", "gemini", chunks=100),
    Scenario(
        "S5", "500 streams of 100 chunks, 20 ms apart", connections=500, chunks=100, delay_ms=20,
        streams=500,
    ),
    Scenario(
        "S6", "100 streams of 60 chunks, 50 ms apart", connections=100, chunks=60, delay_ms=50,
        streams=100,
    ),
    Scenario("S7", "S2 with TLS to the upstream", chunks=100, tls=True),
    Scenario("M1", "Messages in, OpenAI upstream, as S2", chunks=100, path=MESSAGES),
    Scenario("M2", "Messages in, Anthropic upstream, as S2", "claude", chunks=100, path=MESSAGES),
    Scenario("M3", "Messages in, Gemini upstream, as S2", "gemini", chunks=100, path=MESSAGES),
    Scenario("G1", "Gemini in, OpenAI upstream, as S2", chunks=100, path=GEMINI),
    Scenario("G2", "Gemini in, Anthropic upstream, as S2", "claude", chunks=100, path=GEMINI),
    Scenario("G3", "Gemini in, Gemini upstream, as S2", "gemini", chunks=100, path=GEMINI),
    Scenario("R1", "Responses in, OpenAI upstream, as S2", "responses", chunks=100, path=RESPONSES),
    Scenario("R2", "Responses in, Anthropic upstream, as S2", "claude", chunks=100, path=RESPONSES),
    Scenario("R3", "Responses in, Gemini upstream, as S2", "gemini", chunks=100, path=RESPONSES),
    Scenario("R4", "OpenAI in, upstream of Responses alone, as S2", "responses", chunks=100),
    Scenario("W1", "OpenAI in, ChatGPT web by the browser client, as S2", "chatgpt", chunks=100),
    Scenario("W2", "OpenAI in, Claude web by the browser client, as S2", "claude-web", chunks=100),
    Scenario("L1", "Realtime, 100 frames of text each, 16 sockets", chunks=100, path=REALTIME,
        frames="text"),
    Scenario("L2", "Realtime, 100 frames of sound (6.5 KB) each, 16 sockets", chunks=100,
        path=REALTIME, frames="sound"),
    Scenario("L4", "Realtime, 100 sockets, a frame of text every 20 ms", connections=100,
        chunks=50, delay_ms=20, path=REALTIME, frames="text"),
    Scenario("L3", "L2 from the caller to the upstream", chunks=100, path=REALTIME,
        frames="upward"),
)  # fmt: skip
PIECE = "tok {:03d} "  # the text of one chunk
TEXT = "".join(PIECE.format(n) for n in range(50))  # of an answer that is not streamed
