"""Places, the queue before them, and who is let in first."""

import asyncio

import pytest

from app.engine.admission import AdmissionControl
from app.wire.errors import GatewayError


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 10))


async def enter_all(gate, names):
    """A task for each, once all have come to where they must wait."""
    tasks = [asyncio.create_task(gate.enter(name)) for name in names]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


def test_beyond_places_and_queue_callers_hear_503_at_once():
    async def main():
        gate = AdmissionControl(2, 3, 5)
        tasks = await enter_all(gate, ["a"] * 10)
        refused = [task for task in tasks if task.done() and task.exception()]
        assert len(refused) == 5 and gate.running == 2 and gate.waiting == 3
        error = refused[0].exception()
        assert (error.status, error.code) == (503, "overloaded") and error.retry_after >= 1
        for _ in range(5):
            gate.leave("a")
            await asyncio.sleep(0)
        await asyncio.gather(*(task for task in tasks if task not in refused))
        assert (gate.running, gate.waiting, gate._lines) == (0, 0, {})

    run(main())


def test_who_waits_too_long_hears_503():
    async def main():
        gate = AdmissionControl(1, 5, 0.05)
        await gate.enter("a")
        with pytest.raises(GatewayError) as caught:
            await gate.enter("b")
        assert caught.value.status == 503 and gate.waiting == 0
        gate.leave("a")
        assert gate._lines == {}

    run(main())


def test_a_free_place_goes_to_who_has_the_fewest():
    async def main():
        gate = AdmissionControl(3, 10, 5)
        for _ in range(3):
            await gate.enter("greedy")
        tasks = await enter_all(gate, ["greedy", "greedy", "modest"])
        gate.leave("greedy")
        await asyncio.sleep(0)
        assert [task.done() for task in tasks] == [False, False, True]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(main())


def test_one_caller_never_has_all_places_unless_nobody_else_is_expected():
    async def main():
        gate = AdmissionControl(20, 0, 5)
        for _ in range(18):
            await gate.enter("greedy")
        with pytest.raises(GatewayError):
            await gate.enter("greedy")
        await gate.enter("modest")
        sole = AdmissionControl(20, 0, 5)
        for _ in range(20):
            await sole.enter("operator", is_sole=True)

    run(main())


def test_in_a_full_queue_the_longest_line_gives_way():
    async def main():
        gate = AdmissionControl(1, 4, 5)
        await gate.enter("greedy")
        waiting = await enter_all(gate, ["greedy"] * 4)
        (modest,) = await enter_all(gate, ["modest"])
        assert not modest.done() and gate.waiting == 4
        assert waiting[-1].exception().status == 503 and not waiting[0].done()
        gate.leave("greedy")
        await asyncio.wait_for(modest, 1)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    run(main())


def test_equal_callers_take_turns():
    async def main():
        gate = AdmissionControl(1, 20, 5)
        await gate.enter("operator")
        order = []

        async def call(name):
            await gate.enter(name)
            order.append(name)
            gate.leave(name)

        calls = [asyncio.create_task(call(name)) for name in "aaaabb"]
        await asyncio.sleep(0)
        gate.leave("operator")
        await asyncio.gather(*calls)
        assert "".join(order) == "ababaa"

    run(main())


def test_a_caller_who_leaves_while_waiting_keeps_no_place():
    async def main():
        gate = AdmissionControl(1, 5, 5)
        await gate.enter("a")
        first, second = await enter_all(gate, ["b", "c"])
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert gate.waiting == 1
        gate.leave("a")  # the place goes to the second, who leaves in the same moment
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert (gate.running, gate.waiting, gate._lines) == (0, 0, {})

    run(main())


def test_places_add_up_whatever_happens():
    async def main():
        gate = AdmissionControl(7, 9, 0.01)
        most = 0

        async def call(number):
            nonlocal most
            name = f"caller-{number % 5}"
            try:
                await gate.enter(name)
            except GatewayError:
                return
            most = max(most, gate.running)
            try:
                await asyncio.sleep(0.001 * (number % 4))
            finally:
                gate.leave(name)

        tasks = [asyncio.create_task(call(number)) for number in range(400)]
        for number, task in enumerate(tasks):
            if number % 7 == 0:
                asyncio.get_running_loop().call_later(0.002 * (number % 3), task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most == 7 and (gate.running, gate.waiting, gate._lines) == (0, 0, {})

    run(main())
