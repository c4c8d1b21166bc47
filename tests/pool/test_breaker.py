"""When the upstream is to blame and not the key."""

import pytest

from app.pool.outcomes import Outcome
from app.wire.errors import GatewayError
from tests.pool.pool_bench import POOL, PoolBench, is_down


def fail(bench, outcome, ids):
    for lease in [bench.begin(id) for id in ids]:
        bench.sleep(0.01)
        bench.end(lease, outcome)


def turns_calls_away(bench):
    try:
        bench.pool.release(bench.begin())
    except GatewayError as error:
        return error.code in ("upstream_down", "keys_refused") and is_down(bench.pool)
    return False


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("outcome", [Outcome.UPSTREAM, Outcome.AUTH, Outcome.FORBIDDEN])
def test_keys_that_fail_alike_open_the_breaker_and_none_is_punished(count, outcome):
    bench = PoolBench(count)
    fail(bench, outcome, map(str, range(count)))
    assert turns_calls_away(bench)
    with pytest.raises(GatewayError) as caught:
        bench.begin()
    told = {Outcome.UPSTREAM: 503, Outcome.AUTH: 401, Outcome.FORBIDDEN: 403}
    assert caught.value.status == told[outcome] and caught.value.retry_after == pytest.approx(
        2, abs=0.1
    )
    bench.sleep(2.1)
    probe = bench.begin()
    assert probe.probes_upstream and turns_calls_away(bench)
    bench.end(probe, Outcome.OK)
    assert [bench.wait(str(n)) for n in range(count)] == [0] * count


def test_the_breaker_tries_again_within_five_seconds_however_long_it_lasts():
    bench = PoolBench(3)
    fail(bench, Outcome.UPSTREAM, "012")
    waits = []
    for _ in range(8):
        with pytest.raises(GatewayError) as caught:
            bench.begin()
        waits.append(round(caught.value.retry_after))
        bench.sleep(caught.value.retry_after + 0.01)
        bench.call(Outcome.UPSTREAM)
    assert waits == [2, 4, 5, 5, 5, 5, 5, 5]
    bench.sleep(5.1)
    bench.call(Outcome.OK)
    assert not turns_calls_away(bench)


def test_one_request_that_breaks_the_upstream_does_not_close_the_door():
    bench = PoolBench(3)
    for id in "012":
        lease = bench.pool.pick(POOL, id, model="m", call=1.0)
        bench.sleep(0.01)
        bench.end(lease, Outcome.UPSTREAM)
    assert not turns_calls_away(bench)
    bench.call(Outcome.UPSTREAM, "0")  # a second one says the same
    assert turns_calls_away(bench)


def test_a_success_between_them_shows_that_it_is_the_keys():
    bench = PoolBench(4)
    fail(bench, Outcome.UPSTREAM, "01")
    bench.call(Outcome.OK, "3")
    fail(bench, Outcome.UPSTREAM, "2")
    assert not turns_calls_away(bench)


def test_dead_keys_beside_a_good_one_are_the_keys_own_fault():
    bench = PoolBench(50)
    fail(bench, Outcome.AUTH, map(str, range(49)))
    assert not turns_calls_away(bench)
    bench.call(Outcome.OK)
    assert [bench.wait(str(n)) > 0 for n in range(50)] == [True] * 49 + [False]


def test_keys_that_were_dead_before_do_not_count():
    bench = PoolBench(4)
    bench.call(Outcome.AUTH, "3")
    bench.sleep(120)
    bench.call(Outcome.AUTH, "3")
    bench.call(Outcome.OK, "0")
    bench.sleep(5)
    fail(bench, Outcome.AUTH, "012")
    assert turns_calls_away(bench)
    bench.sleep(2.1)
    bench.call(Outcome.OK, "1")
    assert bench.wait("3") > 0  # it died by itself


def test_an_answer_about_the_key_alone_closes_a_breaker_that_was_about_the_upstream():
    bench = PoolBench(3)
    fail(bench, Outcome.UPSTREAM, "012")
    bench.sleep(2.1)
    bench.call(Outcome.LIMITED, "0")
    assert not turns_calls_away(bench) and bench.wait("0") == 10


def test_limits_and_spent_quotas_are_the_keys_own_business():
    for outcome in (Outcome.LIMITED, Outcome.SPENT):
        bench = PoolBench(3)
        fail(bench, outcome, "012")
        assert not turns_calls_away(bench) and bench.wait("0") > 0


def test_a_call_on_its_way_may_go_on_with_other_keys():
    bench = PoolBench(5)
    fail(bench, Outcome.UPSTREAM, "012")
    bench.sleep(0.01)
    lease = bench.begin(tried={"0", "1", "2"}, insist=True)
    bench.end(lease, Outcome.OK)
    assert not turns_calls_away(bench)


def test_a_disabled_key_stays_so_when_the_upstream_is_to_blame():
    bench = PoolBench(2)
    bench.call(Outcome.AUTH, "0")
    bench.pool.disable(POOL, "0")
    bench.call(Outcome.AUTH, "1")
    assert is_down(bench.pool)
    assert [one.state for one in bench.pool.key_statuses() if one.id == "0"] == ["disabled"]
