"""Slots, the queue before them, and which call is admitted next."""

import asyncio

import pytest

from app.engine.admission import AdmissionControl
from app.wire.errors import GatewayError


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 10))


async def enter_all(admission, names):
    """A task for each, once all have come to where they must wait."""
    tasks = [asyncio.create_task(admission.enter(name)) for name in names]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


def is_empty(admission):
    """Private: that nothing is kept of callers who left shows nowhere else."""
    return (admission.running, admission.waiting, admission._callers) == (0, 0, {})


def test_beyond_slots_and_queue_callers_hear_503_at_once():
    async def main():
        admission = AdmissionControl(2, 3, 5)
        tasks = await enter_all(admission, ["a"] * 10)
        refused = [task for task in tasks if task.done() and task.exception()]
        assert len(refused) == 5 and admission.running == 2 and admission.waiting == 3
        error = refused[0].exception()
        assert (error.status, error.code) == (503, "overloaded") and error.retry_after >= 1
        for _ in range(5):
            admission.leave("a")
            await asyncio.sleep(0)
        await asyncio.gather(*(task for task in tasks if task not in refused))
        assert is_empty(admission)

    run(main())


def test_who_waits_too_long_hears_503():
    async def main():
        admission = AdmissionControl(1, 5, 0.05)
        await admission.enter("a")
        with pytest.raises(GatewayError) as caught:
            await admission.enter("b")
        assert caught.value.status == 503 and admission.waiting == 0
        admission.leave("a")
        assert is_empty(admission)

    run(main())


def test_a_free_slot_goes_to_who_has_the_fewest():
    async def main():
        admission = AdmissionControl(3, 10, 5)
        for _ in range(3):
            await admission.enter("greedy")
        tasks = await enter_all(admission, ["greedy", "greedy", "modest"])
        admission.leave("greedy")
        await asyncio.sleep(0)
        assert [task.done() for task in tasks] == [False, False, True]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(main())


def test_one_caller_never_has_all_slots_unless_nobody_else_is_expected():
    async def main():
        admission = AdmissionControl(20, 0, 5)
        for _ in range(18):
            await admission.enter("greedy")
        with pytest.raises(GatewayError):
            await admission.enter("greedy")
        await admission.enter("modest")
        sole = AdmissionControl(20, 0, 5)
        for _ in range(20):
            await sole.enter("operator", is_sole=True)

    run(main())


def test_in_a_full_queue_the_longest_queue_gives_way():
    async def main():
        admission = AdmissionControl(1, 4, 5)
        await admission.enter("greedy")
        waiting = await enter_all(admission, ["greedy"] * 4)
        (modest,) = await enter_all(admission, ["modest"])
        assert not modest.done() and admission.waiting == 4
        assert waiting[-1].exception().status == 503 and not waiting[0].done()
        admission.leave("greedy")
        await asyncio.wait_for(modest, 20)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    run(main())


def test_equal_callers_take_turns():
    async def main():
        admission = AdmissionControl(1, 20, 5)
        await admission.enter("operator")
        order = []

        async def call(name):
            await admission.enter(name)
            order.append(name)
            admission.leave(name)

        calls = [asyncio.create_task(call(name)) for name in "aaaabb"]
        await asyncio.sleep(0)
        admission.leave("operator")
        await asyncio.gather(*calls)
        assert "".join(order) == "ababaa"

    run(main())


def test_a_caller_who_leaves_while_waiting_keeps_no_slot():
    async def main():
        admission = AdmissionControl(1, 5, 5)
        await admission.enter("a")
        first, second = await enter_all(admission, ["b", "c"])
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert admission.waiting == 1
        admission.leave("a")  # the slot goes to the second, who leaves in the same moment
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert is_empty(admission)

    run(main())


def test_slots_add_up_whatever_happens():
    async def main():
        admission = AdmissionControl(7, 9, 0.01)
        most = 0

        async def call(number):
            nonlocal most
            name = f"caller-{number % 5}"
            try:
                await admission.enter(name)
            except GatewayError:
                return
            most = max(most, admission.running)
            try:
                await asyncio.sleep(0.001 * (number % 4))
            finally:
                admission.leave(name)

        tasks = [asyncio.create_task(call(number)) for number in range(400)]
        for number, task in enumerate(tasks):
            if number % 7 == 0:
                asyncio.get_running_loop().call_later(0.002 * (number % 3), task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most == 7 and is_empty(admission)

    run(main())
