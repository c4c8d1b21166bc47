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


MESSAGES = "/c/v1/messages"
GEMINI = "/c/v1beta/models/{model}:streamGenerateContent?alt=sse"
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
    Scenario("W1", "OpenAI in, ChatGPT web by the browser client, as S2", "chatgpt", chunks=100),
    Scenario("W2", "OpenAI in, Claude web by the browser client, as S2", "claude-web", chunks=100),
)  # fmt: skip
PIECE = "tok {:03d} "  # the text of one chunk
TEXT = "".join(PIECE.format(n) for n in range(50))  # of an answer that is not streamed
