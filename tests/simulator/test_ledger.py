"""What the simulator says it saw must be what happened: other tests rely on these counts."""

import hashlib
import json
import time

from tests.simulator.wire import ask, chat, chat_bytes, connect, request_bytes


def open_of(key):
    return lambda stats: stats["by_key"].get(key, {}).get("open", 0)


def test_open_streams_are_counted_and_a_leaving_client_is_noticed_at_once(simulator):
    before = simulator.stats()
    peers = [connect(simulator.url) for _ in range(20)]
    for peer in peers:
        peer.sendall(chat_bytes("sim-hang-after-2", key="sk-leaver"))
    stats = simulator.wait_for(lambda s: s["open"]["streams"] >= before["open"]["streams"] + 20)
    assert stats["by_key"]["sk-leaver"]["open"] == 20
    assert stats["open"]["connections"] >= 20
    begun = time.monotonic()
    for peer in peers:
        peer.close()
    after = simulator.wait_for(lambda s: not open_of("sk-leaver")(s))
    assert time.monotonic() - begun < 5
    assert after["by_key"]["sk-leaver"]["client_gone"] == 20
    assert after["aborted_by_client"] == before["aborted_by_client"] + 20


def test_a_client_that_leaves_before_the_headers_is_noticed_too(simulator):
    with connect(simulator.url) as peer:
        peer.sendall(chat_bytes("sim-hang", stream=False, key="sk-early"))
        simulator.wait_for(open_of("sk-early"))
    after = simulator.wait_for(lambda s: not open_of("sk-early")(s))
    assert after["by_key"]["sk-early"]["client_gone"] == 1


def test_faults_of_our_own_are_not_the_clients_leaving(simulator):
    for model in ("sim-cut-after-1", "sim-close-after-1", "sim-no-length", "gpt-4o"):
        chat(simulator.url, model, key="sk-counted")
    stats = simulator.wait_for(lambda s: not open_of("sk-counted")(s))
    counts = stats["by_key"]["sk-counted"]
    assert (counts["cut"], counts["complete"], counts.get("client_gone", 0)) == (2, 2, 0)
    assert counts["requests"] == 4 and counts["status_200"] == 4


def test_the_last_requests_are_told_byte_exact(simulator):
    path = "/openai/v1/_echo/a%2Fb/../c?q=%20x&q=2"
    headers = [("X-Twice", "1"), ("x-twice", " 2 "), ("Authorization", "Bearer sk-exact")]
    seen = ask(simulator.url, "PUT", path, headers, b'{"a": 1}')
    (told,) = simulator.last(key="sk-exact")
    echoed = json.loads(seen.body)
    for what in (told, echoed):
        assert what["method"] == "PUT" and what["target"] == path
        assert what["headers"] == [
            ["Host", "simulator"],
            ["X-Twice", "1"],
            ["x-twice", "2"],
            ["Authorization", "Bearer sk-exact"],
            ["Content-Length", "8"],
        ]
        assert what["body_bytes"] == 8
        assert what["body_sha256"] == hashlib.sha256(b'{"a": 1}').hexdigest()
    assert echoed["path"] == "/openai/v1/_echo/a%2Fb/../c" and echoed["query"] == "q=%20x&q=2"


def test_bodies_and_models_of_chats_are_told(simulator):
    chat(simulator.url, "gpt-4o", key="sk-body", text="remember me")
    (told,) = simulator.last(key="sk-body", path="/openai/v1/chat", model="gpt-4o")
    assert told["json"]["messages"][0]["content"] == "remember me"
    assert (told["status"], told["outcome"], told["stream"]) == (200, "complete", True)
    assert told["events"] == 7


def test_asking_the_simulator_counts_nowhere(simulator):
    before = simulator.stats()
    simulator.last()
    after = simulator.stats()
    assert before["requests"] == after["requests"]
    assert after["open"]["connections"] == before["open"]["connections"]


def test_an_upload_is_hashed_as_it_arrives(simulator):
    body = b"x" * 3_000_000
    with connect(simulator.url, 10) as peer:
        headers = [("Transfer-Encoding", "chunked"), ("Authorization", "Bearer sk-up")]
        peer.sendall(request_bytes("POST", "/openai/v1/_echo/up", headers))
        for start in range(0, len(body), 100_000):
            peer.sendall(b"%x\r\n%b\r\n" % (100_000, body[start : start + 100_000]))
        simulator.wait_for(open_of("sk-up"))
        peer.sendall(b"0\r\n\r\n")
        assert peer.recv(65536).startswith(b"HTTP/1.1 200")
    (told,) = simulator.last(key="sk-up")
    assert (told["body_bytes"], told["body_sha256"]) == (
        3_000_000,
        hashlib.sha256(body).hexdigest(),
    )


def test_an_address_that_does_not_exist_is_a_404_that_is_told(simulator):
    seen = ask(simulator.url, "GET", "/openai/v1/../../etc/passwd")
    assert seen.status == 404
    assert simulator.last(1)[0]["target"] == "/openai/v1/../../etc/passwd"
