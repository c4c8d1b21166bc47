"""Which credential answers."""

import subprocess
from collections import Counter

import pytest

from app.auth.credentials import bare_token, callers_own
from app.config.schema import Config, KeyEntry, OpenAI
from app.pool.key_pool import KeyPool, row_name
from app.pool.lease import KeysTried
from app.pool.outcomes import Outcome
from app.state.shared_table import COOLDOWN_UNTIL, PROBE_PID, SharedState, fingerprint
from app.wire.errors import GatewayError

POOL = "openai.api_keys"


def pool_of(count, state=None):
    keys = [KeyEntry(id=str(n), val=f"sk-{n}") for n in range(count)]
    return KeyPool(Config(openai=OpenAI(api_keys=keys)), state or SharedState())


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer sk-1", "sk-1"),
        ("bearer   sk-1 ", "sk-1"),
        ("sk-1", "sk-1"),
        ("", ""),
        ("Bearer ", ""),
        ("Bearer", ""),
        ("pool", ""),
        ("Bearer none", ""),
        ("Bearer EMPTY", ""),
        ("Bearer empty-looking", "empty-looking"),
    ],
)
def test_what_counts_as_a_credential(value, token):
    assert bare_token(value) == token


def test_the_first_header_with_a_real_credential_wins():
    headers = {"authorization": "Bearer pool", "x-api-key": "k"}
    assert callers_own(headers, ("authorization", "x-api-key")) == "k"
    assert callers_own(headers, ("authorization",)) == ""


def test_random_is_uniform():
    pool = pool_of(4)
    counts = Counter(pool.pick(POOL).key.id for _ in range(4000))
    assert set(counts) == {"0", "1", "2", "3"}
    assert all(850 < n < 1150 for n in counts.values())


def test_a_resting_key_is_passed_over():
    state = SharedState()
    pool = pool_of(3, state)
    state.set(state.row(row_name(POOL, "1", "https://api.openai.com")), COOLDOWN_UNTIL, 4e9)
    assert {pool.pick(POOL).key.id for _ in range(200)} == {"0", "2"}


def test_a_rest_stays_with_its_key_when_the_list_is_reordered():
    state = SharedState()
    pool_of(3, state)
    state.set(state.row(row_name(POOL, "1", "https://api.openai.com")), COOLDOWN_UNTIL, 4e9)
    keys = [KeyEntry(id=n, val=f"sk-{n}") for n in ("new", "2", "1", "0")]
    reordered = KeyPool(Config(openai=OpenAI(api_keys=keys)), SharedState(state.handles))
    assert {reordered.pick(POOL).key.id for _ in range(300)} == {"new", "2", "0"}


def test_an_id_is_never_answered_by_another_key():
    with pytest.raises(GatewayError) as caught:
        pool_of(2).pick(POOL, "9")
    assert caught.value.code == "unknown_auth_id"


def test_no_error_and_no_repr_holds_a_key():
    key = pool_of(1).pick(POOL).key
    assert "sk-0" not in repr(key) and "sk-0" not in f"{key}"


def test_rows_are_found_again_and_never_shared():
    state = SharedState()
    rows = [state.row(f"name-{n}") for n in range(2000)]
    assert len(set(rows)) == 2000
    assert [state.row(f"name-{n}") for n in range(2000)] == rows
    assert fingerprint("a") != fingerprint("b")


def test_a_full_table_says_so_and_overwrites_nothing():
    state = SharedState()
    rows = {state.row(f"name-{n}") for n in range(5000)}
    assert -1 in rows and len(rows) == 4097


# Rests. The clock is ours; a second worker is a second pool on the same memory.


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


class Room:
    """A pool of `count` keys, and how a call goes."""

    def __init__(self, count=3, **entry):
        self.clock, self.state, self.calls = Clock(), SharedState(), 0.0
        keys = [KeyEntry(id=str(n), val=f"sk-{n}", **entry) for n in range(count)]
        self.config = Config(openai=OpenAI(api_keys=keys))
        self.pool = self.worker()

    def worker(self):
        return KeyPool(self.config, SharedState(self.state.handles), self.clock)

    def begin(self, id=None, model="m", **asked):
        self.calls += 1.0
        return self.pool.pick(POOL, id, model=model, call=self.calls, **asked)

    def end(self, turn, outcome, retry_after=None):
        self.pool.report(turn, outcome, 0, retry_after)
        self.pool.release(turn)

    def call(self, outcome, id=None, model="m", retry_after=None):
        self.end(self.begin(id, model), outcome, retry_after)

    def rest(self, id="0", model="m"):
        """Seconds until the key answers a call again, 0 for now."""
        try:
            self.pool.release(self.pool.pick(POOL, id, model=model))
        except GatewayError as error:
            assert error.status in (401, 402, 403, 429)
            return round(error.retry_after, 3)
        return 0

    def sleep(self, seconds):
        self.clock.now += seconds


@pytest.mark.parametrize(
    ("outcome", "times", "rests"),
    [
        # Each rest is longer than the one before, up to a most.
        (Outcome.AUTH, 1, [10, 20, 40, 80, 160, 320, 600, 600]),
        (Outcome.FORBIDDEN, 2, [10, 20, 40, 80, 160, 320, 600, 600]),
        (Outcome.SPENT, 1, [1800, 3600, 7200, 14400, 28800, 43200, 43200]),
        (Outcome.LIMITED, 1, [10, 20, 40, 80, 160, 300, 300]),
        (Outcome.UPSTREAM, 2, [2, 2, 2]),
    ],
)
def test_each_failure_has_its_rest_and_its_doubling(outcome, times, rests):
    room = Room(1)
    for _ in range(times - 1):
        room.call(outcome, "0")
        assert room.rest() == 0
    for seconds in rests:
        room.call(outcome, "0")
        assert room.rest() == seconds
        room.sleep(seconds - 0.01)
        assert room.rest() > 0
        room.sleep(0.02)
    room.call(Outcome.OK, "0")  # one success, and it begins anew
    for _ in range(times):
        room.call(outcome, "0")
    assert room.rest() == rests[0]


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.REQUEST, Outcome.CUT, Outcome.GONE])
def test_what_is_not_the_keys_fault_has_no_rest(outcome):
    room = Room(1)
    for _ in range(5):
        room.call(outcome, "0")
    assert room.rest() == 0


@pytest.mark.parametrize("first", [Outcome.FORBIDDEN, Outcome.UPSTREAM])
def test_two_failures_in_a_row_are_not_two_with_a_success_between(first):
    room = Room(1)
    for _ in range(3):
        room.call(first, "0")
        room.call(Outcome.OK, "0")
    assert room.rest() == 0


def test_429_rests_the_key_for_that_model_only():
    room = Room(1)
    room.call(Outcome.LIMITED, "0", "gpt-4o")
    assert room.rest(model="gpt-4o") == 10 and room.rest(model="gpt-4o-mini") == 0


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [(7, 7), (0.25, 0.25), (0, 0.1), (99_999, 1800), (float("inf"), 10), (float("nan"), 10),
     (-3, 10), (None, 10)],
)  # fmt: skip
def test_retry_after_is_obeyed_within_reason(asked, seconds):
    room = Room(1)
    room.call(Outcome.LIMITED, "0", retry_after=asked)
    assert room.rest() == pytest.approx(seconds)


def test_failures_that_were_on_their_way_are_one_incident():
    room = Room(1)
    turns = [room.begin("0") for _ in range(20)]
    for turn in turns:
        room.end(turn, Outcome.LIMITED)
    assert room.rest() == 10
    late = [room.begin("0", "other") for _ in range(2)]
    room.end(late[0], Outcome.LIMITED, 5)
    room.end(late[1], Outcome.LIMITED, 8)
    assert room.rest(model="other") == 8


def test_a_success_that_began_before_the_rest_does_not_end_it():
    room = Room(1)
    early = room.begin("0")
    room.sleep(1)
    room.call(Outcome.AUTH, "0")
    room.end(early, Outcome.OK)
    assert room.rest() == 10


def test_when_a_rest_ends_one_request_of_all_workers_is_the_probe():
    room = Room(1)
    room.call(Outcome.AUTH, "0")
    others = [room.worker() for _ in range(3)]
    room.sleep(10.1)
    probe = others[0].pick(POOL, model="m")
    for pool in (room.pool, *others) * 50:
        with pytest.raises(GatewayError) as caught:
            pool.pick(POOL, model="m")
        assert (caught.value.code, caught.value.retry_after) == ("keys_refused", 1.0)
    others[0].report(probe, Outcome.OK, 200)
    others[0].release(probe)
    assert {others[1].pick(POOL).key.id for _ in range(9)} == {"0"}


def test_a_probe_whose_caller_left_leaves_its_place_to_the_next():
    room = Room(1)
    room.call(Outcome.AUTH, "0")
    room.sleep(10.1)
    room.call(Outcome.GONE, "0")
    assert room.begin("0").claims


def test_a_probe_that_never_answers_is_not_waited_for_for_ever():
    room = Room(1)
    room.call(Outcome.AUTH, "0")
    room.sleep(10.1)
    room.begin("0")
    room.sleep(39)
    assert room.rest() == 1
    room.sleep(2)
    assert room.begin("0").claims


def test_a_probe_of_a_killed_worker_is_taken_over_at_once():
    room = Room(1)
    room.call(Outcome.AUTH, "0")
    room.sleep(10.1)
    turn = room.begin("0")
    gone = subprocess.Popen(["true"])
    gone.wait()
    room.state.cells[turn.claims[0] + PROBE_PID] = gone.pid
    assert room.begin("0").claims


def test_a_probe_that_fails_rests_longer_and_a_good_one_wakes_the_key():
    room = Room(1)
    room.call(Outcome.LIMITED, "0")
    room.sleep(10.1)
    room.call(Outcome.LIMITED, "0")
    assert room.rest() == 20
    room.sleep(20.1)
    room.call(Outcome.UPSTREAM, "0")  # says nothing about the limit
    room.call(Outcome.OK, "0")
    assert room.rest() == 0


def test_a_resting_key_is_left_to_its_rest_even_when_it_is_named():
    room = Room(2)
    room.call(Outcome.AUTH, "1")
    with pytest.raises(GatewayError) as caught:
        room.begin("1")
    assert (caught.value.status, caught.value.code) == (401, "key_cooling")


def test_all_resting_tells_the_soonest_end_and_why():
    room = Room(3)
    room.call(Outcome.SPENT, "0")
    room.call(Outcome.LIMITED, "1", retry_after=7)
    room.call(Outcome.AUTH, "2")
    with pytest.raises(GatewayError) as caught:
        room.begin()
    error = caught.value
    assert (error.status, error.retry_after) == (429, pytest.approx(7))
    assert "1 refused" in error.message and "1 spent" in error.message


def test_each_key_has_one_turn_in_a_call():
    room = Room(3)
    tried = set()
    for _ in range(3):
        tried.add(room.begin(tried=tried).key.id)
    assert tried == {"0", "1", "2"}
    with pytest.raises(KeysTried):
        room.begin(tried=tried)


def test_a_replaced_secret_does_not_rest_for_what_the_old_one_did():
    room = Room(1)
    room.call(Outcome.AUTH, "0")
    assert KeyPool(room.config, SharedState(room.state.handles), room.clock) and room.rest() == 10
    room.config = Config(openai=OpenAI(api_keys=[KeyEntry(id="0", val="sk-new")]))
    room.pool = room.worker()
    assert room.rest() == 0


def test_callers_model_names_cannot_fill_the_table():
    room = Room(2)
    for n in range(12_000):
        room.call(Outcome.LIMITED, "0", f"model-{n}")
        assert room.rest(model=f"model-{n}") == 10
    assert room.rest(id="1", model="model-0") == 0


def test_a_caller_who_invents_models_does_not_wake_the_key():
    room = Room(1)
    room.call(Outcome.AUTH, "0")
    for n in range(5000):
        with pytest.raises(GatewayError):
            room.begin("0", f"model-{n}")
    assert room.rest() == 10


# The breaker.


def fail(room, outcome, ids):
    for turn in [room.begin(id) for id in ids]:
        room.sleep(0.01)
        room.end(turn, outcome)


def is_down(room):
    try:
        room.pool.release(room.begin())
    except GatewayError as error:
        return error.code in ("upstream_down", "keys_refused") and room.pool.is_down(POOL)
    return False


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("outcome", [Outcome.UPSTREAM, Outcome.AUTH, Outcome.FORBIDDEN])
def test_keys_that_fail_alike_open_the_breaker_and_none_is_punished(count, outcome):
    room = Room(count)
    fail(room, outcome, map(str, range(count)))
    assert is_down(room)
    with pytest.raises(GatewayError) as caught:
        room.begin()
    told = {Outcome.UPSTREAM: 503, Outcome.AUTH: 401, Outcome.FORBIDDEN: 403}
    assert caught.value.status == told[outcome] and caught.value.retry_after == pytest.approx(
        2, abs=0.1
    )
    room.sleep(2.1)
    probe = room.begin()
    assert probe.probes_upstream and is_down(room)
    room.end(probe, Outcome.OK)
    assert [room.rest(str(n)) for n in range(count)] == [0] * count


def test_the_breaker_tries_again_within_five_seconds_however_long_it_lasts():
    room = Room(3)
    fail(room, Outcome.UPSTREAM, "012")
    waits = []
    for _ in range(8):
        with pytest.raises(GatewayError) as caught:
            room.begin()
        waits.append(round(caught.value.retry_after))
        room.sleep(caught.value.retry_after + 0.01)
        room.call(Outcome.UPSTREAM)
    assert waits == [2, 4, 5, 5, 5, 5, 5, 5]
    room.sleep(5.1)
    room.call(Outcome.OK)
    assert not is_down(room)


def test_one_request_that_breaks_the_upstream_does_not_close_the_door():
    room = Room(3)
    for id in "012":
        turn = room.pool.pick(POOL, id, model="m", call=1.0)
        room.sleep(0.01)
        room.end(turn, Outcome.UPSTREAM)
    assert not is_down(room)
    room.call(Outcome.UPSTREAM, "0")  # a second one says the same
    assert is_down(room)


def test_a_success_between_them_shows_that_it_is_the_keys():
    room = Room(4)
    fail(room, Outcome.UPSTREAM, "01")
    room.call(Outcome.OK, "3")
    fail(room, Outcome.UPSTREAM, "2")
    assert not is_down(room)


def test_dead_keys_beside_a_good_one_are_the_keys_own_fault():
    room = Room(50)
    fail(room, Outcome.AUTH, map(str, range(49)))
    assert not is_down(room)
    room.call(Outcome.OK)
    assert [room.rest(str(n)) > 0 for n in range(50)] == [True] * 49 + [False]


def test_keys_that_were_dead_before_do_not_count():
    room = Room(4)
    room.call(Outcome.AUTH, "3")
    room.sleep(120)
    room.call(Outcome.AUTH, "3")
    room.call(Outcome.OK, "0")
    room.sleep(5)
    fail(room, Outcome.AUTH, "012")
    assert is_down(room)
    room.sleep(2.1)
    room.call(Outcome.OK, "1")
    assert room.rest("3") > 0  # it died by itself


def test_an_answer_about_the_key_alone_closes_a_breaker_that_was_about_the_upstream():
    room = Room(3)
    fail(room, Outcome.UPSTREAM, "012")
    room.sleep(2.1)
    room.call(Outcome.LIMITED, "0")
    assert not is_down(room) and room.rest("0") == 10


def test_limits_and_spent_quotas_are_the_keys_own_business():
    for outcome in (Outcome.LIMITED, Outcome.SPENT):
        room = Room(3)
        fail(room, outcome, "012")
        assert not is_down(room) and room.rest("0") > 0


def test_a_call_on_its_way_may_go_on_with_other_keys():
    room = Room(5)
    fail(room, Outcome.UPSTREAM, "012")
    room.sleep(0.01)
    turn = room.begin(tried={"0", "1", "2"}, insist=True)
    room.end(turn, Outcome.OK)
    assert not is_down(room)


# For operators.


def test_a_disabled_key_rests_until_it_is_reset():
    room = Room(1)
    assert room.pool.disable(POOL, "0") and not room.pool.disable(POOL, "nobody")
    room.sleep(10**6)
    with pytest.raises(GatewayError) as caught:
        room.begin()
    assert caught.value.retry_after == 1800 and "disabled" in caught.value.message
    assert [one.state for one in room.pool.key_statuses()] == ["disabled"]
    assert room.pool.reset(POOL, "0") and room.rest() == 0


def test_standings_tell_state_and_reason():
    room = Room(3)
    room.call(Outcome.AUTH, "0")
    room.call(Outcome.OK, "1")
    standings = {one.id: (one.state, one.why) for one in room.pool.key_statuses()}
    assert standings == {"0": ("resting", "refused"), "1": ("awake", ""), "2": ("awake", "")}
    room.sleep(10.1)
    assert room.pool.key_statuses()[0].state == "due"
    room.begin("0")
    assert room.pool.key_statuses()[0].state == "probing"
