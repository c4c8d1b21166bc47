"""A key pool with a clock of its own; a second worker is a second pool on the same memory."""

from app.config.schema import Config, KeyEntry, OpenAI
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState
from app.wire.errors import GatewayError

POOL = "openai.api_keys"


def is_down(pool, name=POOL):
    """Whether the breaker of this pool's upstream is open, as its operator is told."""
    return any(status.pool == name and not status.id for status in pool.key_statuses())


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


class PoolBench:
    """A pool of `count` keys, and how a call goes."""

    def __init__(self, count=3, state_path="", **entry):
        self.clock, self.state, self.calls = Clock(), SharedState(), 0.0
        keys = [KeyEntry(id=str(n), val=f"sk-{n}", **entry) for n in range(count)]
        self.config = Config(openai=OpenAI(api_keys=keys), state_path=state_path)
        self.pool = self.worker()

    def worker(self):
        return KeyPool(self.config, SharedState(self.state.handles), self.clock)

    def begin(self, id=None, model="m", **asked):
        self.calls += 1.0
        return self.pool.pick(POOL, id, model=model, call=self.calls, **asked)

    def end(self, lease, outcome, retry_after=None):
        self.pool.report(lease, outcome, 0, retry_after)
        self.pool.release(lease)

    def call(self, outcome, id=None, model="m", retry_after=None):
        self.end(self.begin(id, model), outcome, retry_after)

    def wait(self, id="0", model="m"):
        """Seconds until the key answers a call again, 0 for now."""
        try:
            self.pool.release(self.pool.pick(POOL, id, model=model))
        except GatewayError as error:
            assert error.status in (401, 402, 403, 429)
            return round(error.retry_after, 3)
        return 0

    def sleep(self, seconds):
        self.clock.now += seconds
