"""Costs of recorded answers by the shipped list equal figures worked by hand, and what upstreams
tell wins. A renewed list may move figures of the table: then work them anew from its prices."""

from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import pytest

from app.accounting import renew_prices
from app.accounting.accounting import Accounting
from app.accounting.prices import Price, Prices, price_of
from app.config.schema import Config, ModelPrice, PriceStep, Upstream
from app.telemetry.call_log import CallRecord
from app.wire.events import Usage
from app.wire.stream_end import usage_in
from tests.fronts.test_property import recorded_events
from tests.providers.openai.chat_answers import RECORDINGS
from tests.providers.test_expected_answers import ANSWERS, STREAMS

RECORDED = Path(__file__).parents[1] / "recorded"
PRICES = Prices(Config())
COMPATIBLE = "openai-compatible"

# An answer's file, provider and model. Below: tokens x USD per million of what is fresh, cached,
# answered ..., and 1 x the price by the request; their sum in millionths of a USD.
BY_THE_LIST = """
claude/api-json-schema.sse claude-api claude-sonnet-4-5-20250929
    230x3 + 94x15 = 2100
claude/api-text.sse claude-api claude-haiku-4-5-20251001
    15x1 + 9x5 = 60
claude/api-thinking-then-tool.sse claude-api claude-haiku-4-5-20251001
    598x1 + 92x5 = 1058
claude/api-text-then-tools.sse claude-api claude-3-5-sonnet-20240620
    506x3 + 153x15 = 3813
claude/api-thinking-adaptive.json claude-api claude-sonnet-5
    44x2 + 626x10 = 6348
gemini/array-thoughts.json gemini-api gemini-3.6-flash
    11x0.75 + 293x3.75 = 1107
gemini/sse-text.sse gemini-api gemini-2.5-flash
    18x0.3 + 115x2.5 = 292.9
gemini/sse-tool-call-gemini3.sse gemini-api gemini-3-pro-preview
    29x2 + 212x12 = 2602
gemini/array-tool-call-gemini3.json gemini-api gemini-3-flash-preview
    60x0.5 + 48x3 = 174
openai-compatible/gemini-compat-tool.json gemini-openai gemini-2.5-pro-preview-05-06
    35x1.25 + 74x10 = 783.75
openai/chat-basic.json openai-api gpt-3.5-turbo-0125
    15x0.5 + 19x1.5 = 36
openai/chat-stream-n3.sse openai-api gpt-4o-2024-08-06
    79x2.5 + 42x10 = 617.5
openai/chat-stream-usage.sse openai-api gpt-4-0613
    12x30 + 5x60 = 660
openai/chat-no-logprobs-key.json openai-api gpt-5-2025-08-07
    8x1.25 + 11x10 = 120
openai/embeddings-base64.json openai-api text-embedding-3-small
    4x0.02 = 0.08
responses/encrypted-tool-1-stream.sse openai-api gpt-5-nano-2025-08-07
    87x0.05 + 339x0.4 = 139.95
responses/phase-commentary-tool-stream.sse openai-api gpt-5.5-2026-04-23
    63x5 + 69x30 = 2385
responses/text-stream.sse openai-api gpt-4.1-nano-2025-04-14
    14x0.1 + 9x0.4 = 5
responses/text.json openai-api gpt-4o-mini-2024-07-18
    20x0.15 + 10x0.6 = 9
responses/custom-tool-stream.sse openai-api gpt-5.2-codex
    50x1.75 + 20x14 = 367.5
openai-compatible/azure-filter-chunk.sse azure gpt-5-mini-2025-08-07
    145x0.25 + 154x2 = 344.25
openai-compatible/dashscope-tool.sse dashscope qwen3-max
    295x1.2 + 22x6 = 486
openai-compatible/deepseek-reasoner.sse deepseek deepseek-reasoner
    6x0.55 + 212x2.19 = 467.58
openai-compatible/deepseek-reasoning-tool.sse deepseek deepseek-reasoner
    19x0.55 + 320x0.14 + 83x2.19 = 237.02
responses/other-deepseek-tool-stream.sse deepseek deepseek-v4-flash
    110x0.3 + 256x0.006 + 59x1.2 = 105.336
openai-compatible/groq-tools.sse groq moonshotai/kimi-k2-instruct-0905
    201x1 + 58x3 = 375
openai-compatible/mistral-thinking.sse mistral mistral-small-latest
    31x0.15 + 66x0.6 = 44.25
openai-compatible/mistral-tool.sse mistral mistral-small-latest
    96x0.15 + 23x0.6 = 28.2
openai-compatible/perplexity-citations.sse perplexity sonar
    10x1 + 336x1 + 1x12000 = 12346
openai-compatible/think-tags.sse siliconflow-global deepseek-ai/DeepSeek-R1
    10x0.5 + 955x2.18 = 2086.9
openai-compatible/zai-reasoning-tool.sse zai glm-4.7-flash
    1x0 + 172x0 + 87x0 = 0
"""

# What the upstream says itself, as the list has it too where it knows.
TOLD = """
openai-compatible/openrouter-claude-thinking-tool.sse openrouter anthropic/claude-4.5-haiku-20251001
    607x1 + 143x5 = 1322
openai-compatible/openrouter-leading-space.json openrouter anthropic/claude-4.5-haiku-20251001
    16x1 + 13x5 = 81
responses/other-xai-tool-stream.sse xai grok-4.3
    161x1.25 + 128x0.2 + 171x2.5 = 654.35
openai-compatible/xai-reasoning-tool.sse xai grok-3-mini-high
    the list does not know = 191.825
openai-compatible/perplexity-chat.json perplexity sonar
    the list does not know = 5020
"""


def rows(table: str) -> list[tuple[str, str, str, str, Decimal]]:
    """The file, provider, model, arithmetic and millionths of a USD of each row."""
    lines = table.split("\n")[1:-1]
    found = []
    for answer, figures in zip(lines[::2], lines[1::2], strict=True):
        arithmetic, _, micro = figures.strip().partition(" = ")
        found.append((*answer.split(), arithmetic, Decimal(micro)))
    return found


def usages(file: str) -> list[Usage]:
    """The usage of a recorded answer as each path through the gateway finds it."""
    data = (RECORDED / file).read_bytes()
    folder, _, name = file.partition("/")
    found = [usage_in(data, data[:16_384])]  # of an answer that is copied
    family = "openai" if folder == COMPATIBLE else folder
    if name in RECORDINGS or (family, name) in ANSWERS or (family, name) in STREAMS:
        events = recorded_events(family, name)  # of one that is translated
        found.append([event for event in events if isinstance(event, Usage)][-1])
    return found


def sum_of(arithmetic: str) -> Decimal:
    pairs = (term.split("x") for term in arithmetic.split(" + "))
    return sum((Decimal(tokens) * Decimal(price) for tokens, price in pairs), Decimal(0))


@pytest.mark.parametrize(("file", "provider", "model", "arithmetic", "micro"), rows(BY_THE_LIST))
def test_a_recorded_answer_costs_what_was_worked_out_by_hand(
    file, provider, model, arithmetic, micro
):
    assert sum_of(arithmetic) == micro
    for usage in usages(file):
        record = CallRecord(request_id="r", route="/", provider=provider, model=model)
        record.count(usage)
        Accounting(prices=PRICES).settle(record)
        assert record.cost == micro * 1000, usage


@pytest.mark.parametrize(("file", "provider", "model", "arithmetic", "micro"), rows(TOLD))
def test_the_cost_that_an_upstream_tells_wins_and_the_list_agrees(
    file, provider, model, arithmetic, micro
):
    for usage in usages(file):
        assert usage.cost == micro * 1000
        assert PRICES.cost(provider, model, usage) == micro * 1000
        if "x" in arithmetic.split(" ")[0]:
            usage.cost = None
            assert sum_of(arithmetic) == micro
            assert PRICES.cost(provider, model, usage) == micro * 1000


def test_the_table_is_of_thirty_answers_and_ten_upstreams():
    both = [*rows(BY_THE_LIST), *rows(TOLD)]
    assert len(both) >= 30 and len({provider for _, provider, *_ in both}) >= 10


@pytest.mark.parametrize(
    ("body", "nano"),
    [
        (b'{"usage":{"prompt_tokens":7,"cost":1.4e-07}}', 140),
        (b'{"usage":{"prompt_tokens":7,"cost":{"currency":"USD","total_cost":2.8e-08}}}', 28),
        (b'{"usage":{"prompt_tokens":7,"cost":{"currency":"CNY","total_cost":2.8e-08}}}', None),
        (
            b'{"usage":{"prompt_tokens":7,"cost":0.001,"is_byok":true,'
            b'"cost_details":{"upstream_inference_cost":0.02}}}',
            21_000_000,
        ),
        (b'{"usage":{"prompt_tokens":7,"cost_in_usd_ticks":6543500}}', 654_350),
        (b'{"usage":{"prompt_tokens":7,"cost":-1}}', None),
        (b'{"usage":{"prompt_tokens":7,"cost":true,"is_byok":"x"}}', None),
        (b'{"usage":{"prompt_tokens":7,"cost":"0.1 USD"}}', None),
        (b'{"usage":{"prompt_tokens":7,"cost":1e300}}', None),
        (b'{"usage":{"prompt_tokens":7}}', None),
    ],
)
def test_a_told_cost_is_read_and_nonsense_hides_no_counts(body, nano):
    usage = usage_in(body)
    assert (usage.cost, usage.prompt_tokens) == (nano, 7)


def test_anthropics_cache_is_billed_by_how_long_it_is_kept():
    body = (
        b'{"usage":{"input_tokens":10,"cache_read_input_tokens":1000,'
        b'"cache_creation_input_tokens":300,"cache_creation":{"ephemeral_5m_input_tokens":100,'
        b'"ephemeral_1h_input_tokens":200},"output_tokens":20}}'
    )
    # 10x1 + 1000x0.1 + 100x1.25 + 200x2 + 20x5
    assert PRICES.cost("claude-api", "claude-haiku-4-5", usage_in(body)) == 735_000


def test_a_long_prompt_is_billed_by_its_own_step_as_a_whole():
    short, long = Usage(200_000, 1000, cached_tokens=50_000), Usage(200_001, 1000)
    # 150,000x1.25 + 50,000x0.125 + 1000x10; 200,001x2.5 + 1000x15
    assert PRICES.cost("gemini-api", "gemini-2.5-pro", short) == 203_750_000
    assert PRICES.cost("gemini-api", "gemini-2.5-pro", long) == 515_002_500


def test_sound_and_thinking_have_prices_of_their_own_where_they_are_known():
    price = price_of([[0, 1, 10, 0.5, None, None, 20, 30, 40]])
    usage = Usage(
        100, 50, cached_tokens=10, reasoning_tokens=5, audio_tokens=40, completion_audio_tokens=15
    )
    # 50x1 + 10x0.5 + 40x30 + 30x10 + 5x20 + 15x40
    assert price.cost(usage) == 2_255_000
    assert price_of([[0, 1, 10]]).cost(usage) == 600_000  # else as text: 100x1 + 50x10


def test_what_has_no_price_costs_nobody_knows_what_and_what_is_free_nothing():
    assert PRICES.cost("openai-api", "gpt-4o-of-tomorrow", Usage(1, 1)) is None
    assert PRICES.cost("openai-chat-web", "gpt-4o", Usage(1, 1)) is None
    assert PRICES.cost("ollama", "llama3", Usage(1, 1)) is None
    assert PRICES.cost("openai-api", "text-embedding-3-small", Usage(1, 1)) is None  # no answers
    assert PRICES.cost("openrouter", "deepseek/deepseek-r1:free", Usage(1, 1)) == 0
    assert PRICES.cost("openai-api", "gpt-4o-of-tomorrow", Usage(1, 1, cost=0)) == 0


def rate(provider: str, model: str, prices: Prices = PRICES) -> tuple[int | None, ...] | None:
    found = prices.find(provider, model)
    return None if found is None else found.steps[0][:2]


@pytest.mark.parametrize(
    ("provider", "model", "provider_2", "model_2"),
    [
        ("openai-api", "gpt-4o-2024-11-20", "openai-api", "gpt-4o"),
        ("openai-api", "GPT-4o", "openai-api", "gpt-4o"),
        ("claude-api", "claude-opus-4-5@20251101", "claude-api", "claude-opus-4-5"),
        ("gemini-api", "models/gemini-2.5-flash", "gemini-api", "gemini-2.5-flash"),
        ("gemini-openai", "gemini-2.5-flash", "gemini-api", "gemini-2.5-flash"),
        ("azure-foundry", "grok-4.3", "xai", "grok-4.3"),
        ("openrouter", "openai/gpt-4o:nitro", "openai-api", "gpt-4o"),
        ("openrouter", "x-ai/grok-4.3-latest", "xai", "grok-4.3"),
        ("fireworks", "deepseek-v3p2", "fireworks", "accounts/fireworks/models/deepseek-v3p2"),
        ("bedrock", "anthropic.claude-3-haiku-20240307-v1:0", "claude-api", "claude-3-haiku"),
    ],
)
def test_names_of_one_model_have_one_price(provider, model, provider_2, model_2):
    assert rate(provider, model) == rate(provider_2, model_2) is not None


def test_an_entry_has_the_prices_of_its_preset_by_name_alias_or_host():
    upstreams = [
        Upstream(name="grok"),
        Upstream(name="mine", api_url="https://api.deepseek.com/v1"),
        Upstream(name="lab", api_url="http://10.0.0.7/v1", like="deepseek"),
    ]
    prices = Prices(Config(upstreams=upstreams))
    assert rate("grok", "grok-4.3", prices) == rate("xai", "grok-4.3")
    assert rate("mine", "deepseek-chat", prices) == rate("deepseek", "deepseek-chat")
    assert rate("lab", "deepseek-chat", prices) is None


def test_the_configs_prices_win_and_leave_the_others():
    own = ModelPrice(
        input=1, output=2, cached=0.5, steps=[PriceStep(above=100, output=4, request=1000)]
    )
    prices = Prices(
        Config(
            upstreams=[Upstream(name="lab", api_url="http://10.0.0.7/v1")],
            prices={
                "openai": {"gpt-4o": own, "gpt-4*": ModelPrice(input=3, output=3)},
                "lab": {"*": ModelPrice(input=0, output=0)},
            },
        )
    )
    assert prices.cost("openai-api", "gpt-4o", Usage(100, 10, cached_tokens=40)) == 100_000
    # 61x1 + 40x0.5 + 10x4 and 0.001 USD for the request
    assert prices.cost("openai-api", "gpt-4o", Usage(101, 10, cached_tokens=40)) == 1_121_000
    assert rate("openai-api", "gpt-4-turbo", prices) == (3_000_000, 3_000_000)
    assert rate("openai-api", "gpt-5", prices) == rate("openai-api", "gpt-5")
    assert prices.cost("lab", "anything", Usage(5, 5)) == 0


def test_the_list_is_read_in_milliseconds_and_what_callers_invent_is_not_kept():
    took = []
    for _ in range(5):  # other tests run beside this one
        began = perf_counter()
        prices = Prices(Config())
        prices.find("openai-api", "gpt-4o")
        took.append(perf_counter() - began)
    assert min(took) < 0.05  # about 1 ms
    for n in range(10_000):
        prices.find("openai-api", f"invented-{n}")
    assert len(prices._found) <= 4096  # private: nothing else tells how much is kept


GENAI = """[{"id": "openai", "models": [
 {"id": "m-1", "match": {"or": [{"starts_with": "m-1-"}, {"regex": "^m-1@"}]}, "prices": [
   {"prices": {"input_mtok": 9, "output_mtok": 9}},
   {"constraint": {"start_date": "2026-01-01"}, "prices": {"input_mtok": {"base": 1, "tiers": [
     {"start": 1000, "price": 2}]}, "output_mtok": 4, "requests_kcount": 3}},
   {"constraint": {"start_date": "2999-01-01"}, "prices": {"input_mtok": 7, "output_mtok": 7}}]},
 {"id": "night", "match": {"equals": "night"}, "prices": [
   {"prices": {"input_mtok": 1, "output_mtok": 2}},
   {"constraint": {"start_time": "00:00:00+00:00", "end_time": "08:00:00+00:00"},
    "prices": {"input_mtok": 2, "output_mtok": 4}}]},
 {"id": "hours", "match": {"equals": "hours"}, "prices": {"audio_hours": 1}}]}]"""


def test_the_list_is_made_anew_of_files_without_a_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(renew_prices, "SOURCES", {"openai": ("openai", "openai")})
    (models := tmp_path / "md" / "openai" / "models" / "org").mkdir(parents=True)
    (tmp_path / "genai.json").write_text(GENAI)
    step = "[[cost.tiers]]\ntier = { size = 10 }\ninput = 5\n"
    (models / "m-2.toml").write_text(f"[cost]\ninput = 0.5\noutput = 1\n{step}")
    (models / "m-3.toml").write_text("name = 'no price'")
    out = tmp_path / "prices.json"
    asked = ["--genai-prices", tmp_path / "genai.json", "--models-dev", tmp_path / "md"]
    asked += ["--version", "1", "--commit", "2", "--date", "2026-11-27", "--out", out]
    assert renew_prices.main([str(each) for each in asked]) == 0
    assert "4 models of 1 upstreams" in capsys.readouterr().out
    prices = Prices(Config(), out)
    assert prices.find("openai-api", "m-1") == prices.find("openai-api", "m-1-2026-01-01")
    assert prices.cost("openai-api", "m-1", Usage(1001, 1)) == 1001 * 2000 + 4000 + 3_000_000
    assert rate("openai-api", "night", prices) == (2_000_000, 4_000_000)
    assert prices.cost("openai-api", "org/m-2", Usage(11, 1)) == 11 * 5000 + 1000
    assert rate("openai-api", "hours", prices) is rate("openai-api", "org/m-3", prices) is None


def test_no_cost_falls_when_more_is_counted():
    price = Price((), ((1_000_000, 2_000_000, 100_000, *(None,) * 6),))
    costs = [price.cost(Usage(n, n, cached_tokens=n // 2)) for n in range(50)]
    assert all(one <= other for one, other in pairwise(costs))
