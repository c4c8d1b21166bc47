"""What this code uses of the internals of Sanic, curl_cffi and discord.py: each name, and where.

Internals are what these packages may change without notice: modules outside their public API,
underscored names, members of classes that are subclassed here, attributes that are replaced. When
an upgrade drops one, a test fails and says which. So does a name that is borrowed without a row in
the table, and a row that is no longer used.
"""

import ast
import importlib
import inspect
import re
import textwrap
from asyncio import Protocol
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

# discord.py imports it for voice, which nobody needs here.
pytestmark = pytest.mark.filterwarnings("ignore:'audioop' is deprecated:DeprecationWarning")

ROOT = Path(__file__).parents[1]
SCANNED = ("app", "providers")
PACKAGES = ("sanic", "curl_cffi", "discord")
# What these offer to everybody.
PUBLIC = ("sanic", "sanic.exceptions", "sanic.response", "curl_cffi", "discord")

HTTP = "sanic.http.http1.Http"
PROTOCOL = "sanic.server.protocols.http_protocol.HttpProtocol"
MANAGER = "sanic.worker.manager.WorkerManager"
PROCESS = "sanic.worker.process.WorkerProcess"
WORKER = "sanic.worker.process.Worker"
REQUEST = "sanic.request.types.Request"
CLIENT = "discord.client.Client"

# The class of an expression, where its members are not for everybody.
HOLDS = {
    "http": HTTP,
    "stream": HTTP,
    "self._http": HTTP,
    "request.stream": HTTP,
    "protocol": PROTOCOL,
    "http.protocol": PROTOCOL,
    "self._http.protocol": PROTOCOL,
    "request.stream.protocol": PROTOCOL,
    "process": PROCESS,
    "worker": WORKER,
    "app.manager": MANAGER,
    "request.app.m": "sanic.worker.multiplexer.WorkerMultiplexer",
    "client.http": "discord.http.HTTPClient",
    "client._connection": "discord.state.ConnectionState",
}
# These have a public side too: only what is underscored, or set from outside, is borrowed.
HALF_PUBLIC = {"request": REQUEST, "http.request": REQUEST, "client": CLIENT}
BORROWED_OF_HALF_PUBLIC = {f"{CLIENT}.http"}
# Whose attributes hasattr looks for.
BY_NAME = {
    "handler": "sanic.mixins.routes",
    "app": "sanic.app.Sanic",
    "request.app": "sanic.app.Sanic",
}

BORROWED: dict[str, dict[str, str]] = {
    "app/clients/browser.py": {
        "curl_cffi.const": "CurlMOpt",
        "curl_cffi.curl": """
            CURLPAUSE_CONT CURLPAUSE_RECV CURL_READFUNC_ABORT CURL_READFUNC_PAUSE
            CURL_WRITEFUNC_PAUSE""",
        "curl_cffi.requests.impersonate": "DEFAULT_CHROME",
    },
    "app/http/connection.py": {
        "sanic.http": "Stage",
        "sanic.http.http1.Http": """
            exception keep_alive protocol request request_body request_bytes
            request_bytes_left stage""",
        "sanic.models.server_types": "ConnInfo",
        "sanic.request.types.Request": "_parsed_url raw_url",
        "sanic.server.protocols.http_protocol": "HttpProtocol",
        "sanic.server.protocols.http_protocol.HttpProtocol": """
            HTTP_CLASS _callback_check_timeouts _can_write _http _task _time _unix app
            check_timeouts close close_if_idle conn_info connections http
            keep_alive_timeout loop receive_more recv_buffer request_handler
            request_timeout response_timeout send transport""",
    },
    "app/http/dispatch.py": {
        "sanic.app.Sanic": "ctx handle_exception handle_request router",
        "sanic.http": "Stage",
        "sanic.mixins.routes": "is_stream",
        "sanic.http.http1.Http": """
            http1_response_header keep_alive protocol request_body request_bytes_left
            request_max_size
            respond send stage""",
        "sanic.request.types.Request": "_match_info body route",
        "sanic.server.protocols.http_protocol.HttpProtocol": "transport",
    },
    "app/http/head_cache.py": {
        "sanic.compat": "Header",
        "sanic.http.http1.Http": """
            head_only keep_alive protocol recv_buffer request request_body request_bytes
            request_bytes_left""",
        "sanic.request.types.Request": "stream",
        "sanic.server.protocols.http_protocol.HttpProtocol": "app transport",
    },
    "app/http/http1.py": {
        "sanic.headers": "_HTTP1_STATUSLINES",
        "sanic.helpers": "has_message_body",
        "sanic.http": "Http Stage",
        "sanic.http.http1.Http": """
            _receive_more _send create_empty_request expecting_continue head_only
            head_response_ignored http1_request_header http1_response_chunked
            http1_response_header http1_response_normal init_for_request keep_alive
            protocol read recv_buffer request request_body request_bytes
            request_bytes_left request_max_size response response_bytes_left
            response_func response_size stage url""",
        "sanic.request.types.Request": "responded",
        "sanic.server.protocols.http_protocol.HttpProtocol": "_time transport",
    },
    "app/http/responses.py": {
        "sanic.compat": "Header",
    },
    "app/http/routes/admin.py": {
        "sanic.app.Sanic": "multiplexer",
        "sanic.worker.multiplexer.WorkerMultiplexer": "workers",
    },
    "app/http/routes/console.py": {
        "sanic.request.types.Request": "_match_info _parsed_url raw_url route",
    },
    "app/http/routes/reverse_proxy.py": {
        "sanic.http.http1.Http": "read",
    },
    "app/http/sinks.py": {
        "sanic.http.http1.Http": "protocol send",
        "sanic.server.protocols.http_protocol.HttpProtocol": "_can_write",
    },
    "app/http/websocket.py": {
        "sanic.http.http1.Http": "protocol response_func",
    },
    "app/process/discord_bridge.py": {
        "discord.VoiceClient": "warn_dave warn_nacl",
        "discord.client.Client": "_connection http",
        "discord.gateway.DiscordWebSocket": "DEFAULT_GATEWAY",
        "discord.http.HTTPClient": "logs_from",
        "discord.http.Route": "BASE",
        "discord.state.ConnectionState": "parsers",
    },
    "app/process/server.py": {
        "sanic.Sanic": "START_METHOD_SET start_method",
        "sanic.app.Sanic": "multiplexer",
        "sanic.mixins": "startup",
        "sanic.mixins.startup": "WorkerManager",
        "sanic.worker.loader": "AppLoader",
        "sanic.worker.manager.WorkerManager": "manage",
    },
    "app/process/supervisor.py": {
        "sanic.worker.constants": "ProcessState",
        "sanic.worker.loader": "AppLoader",
        "sanic.worker.manager": "MonitorCycle WorkerManager",
        "sanic.worker.manager.WorkerManager": """
            _all_workers_ack _handle_message _poll_monitor _server_settings
            _shutting_down _sync_states cleanup create_server durable_processes kill
            monitor_publisher monitor_subscriber num_server processes restart shutdown
            shutdown_signal start transient transient_processes wait_for_ack
            worker_state workers""",
        "sanic.worker.process": "Worker WorkerProcess",
        "sanic.worker.process.Worker": "name processes restartable",
        "sanic.worker.process.WorkerProcess": """
            _current_process exit is_alive name pid set_state start state""",
    },
    "app/simulator/bing.py": {
        "sanic.server.websockets.impl": "WebsocketImplProtocol",
    },
    "app/simulator/chatgpt.py": {
        "sanic.server.websockets.impl": "WebsocketImplProtocol",
    },
    "app/simulator/delivery.py": {
        "sanic.http.http1.Http": "protocol",
        "sanic.server.protocols.http_protocol.HttpProtocol": "send",
    },
    "app/simulator/discord_gateway.py": {
        "sanic.server.websockets.impl": "WebsocketImplProtocol",
    },
    "app/simulator/gemini_live.py": {
        "sanic.server.websockets.impl": "WebsocketImplProtocol",
    },
    "app/simulator/ledger.py": {
        "sanic.server.protocols.websocket_protocol": "WebSocketProtocol",
        "sanic.server.protocols.websocket_protocol.WebSocketProtocol": "_setup app request_handler",
    },
    "app/simulator/live.py": {
        "sanic.server.websockets.impl": "WebsocketImplProtocol",
    },
    "app/simulator/openai_live.py": {
        "sanic.server.websockets.impl": "WebsocketImplProtocol",
    },
    "app/simulator/request_body.py": {
        "sanic.http.http1.Http": "read",
    },
    "app/simulator/uploads.py": {
        "sanic.http.http1.Http": "read",
    },
}


def place(owner: str):
    """The module or class of that dotted name."""
    parts = owner.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(owner)


@cache
def members(owner: str) -> frozenset[str]:
    """The names in a module, or those of a class and its instances, as far as its source says."""
    found = place(owner)
    names = set(dir(found))
    if inspect.ismodule(found) and found.__file__ is not None:
        names |= set(re.findall(r"\.(\w+) = ", Path(found.__file__).read_text()))
    for each in inspect.getmro(found) if inspect.isclass(found) else ():
        names |= set(getattr(each, "__annotations__", ()))
        slots = each.__dict__.get("__slots__", ())
        names |= {slots} if isinstance(slots, str) else set(slots)
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        except (OSError, TypeError):
            continue
        names |= {node.attr for node in _of_self(tree) if isinstance(node.ctx, ast.Store)}
    return frozenset(names)


def _of_self(tree: ast.AST) -> list[ast.Attribute]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and (ast.unparse(node.value) == "self" or ast.unparse(node.value) == "super()")
    ]


class Scan:
    """What one file borrows, as {owner: names}."""

    def __init__(self, source: str) -> None:
        self.imported: dict[str, str] = {}  # local name: dotted name
        self.found: dict[str, set[str]] = defaultdict(set)
        nodes = list(ast.walk(ast.parse(source)))
        for node in nodes:
            if isinstance(node, ast.Import):
                self._import_names(node)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                self._import_from(node.module, node.names)
        if not self.imported:
            return
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                self._look_at_class(node)
            elif isinstance(node, ast.Attribute):
                self._look_at_attribute(node)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr":
                self._look_at_hasattr(node)

    def _import_names(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.split(".")[0] in PACKAGES:
                self.imported[alias.asname or alias.name] = alias.name

    def _import_from(self, module: str, names: list[ast.alias]) -> None:
        if module.split(".")[0] not in PACKAGES:
            return
        for alias in names:
            self.imported[alias.asname or alias.name] = f"{module}.{alias.name}"
            if module not in PUBLIC or alias.name.startswith("_"):
                self.found[module].add(alias.name)

    def _look_at_class(self, node: ast.ClassDef) -> None:
        """Overridden members, and the inherited ones that it uses by itself."""
        for base in node.bases:
            name = self.imported.get(ast.unparse(base).partition("[")[0])
            if name is None or issubclass(place(name), Exception):
                continue
            owner = f"{place(name).__module__}.{place(name).__qualname__}"
            own = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
            own |= {each.name for each in node.body if isinstance(each, ast.AsyncFunctionDef)}
            own |= {each.id for each in _targets(node)} | {each.attr for each in _of_self(node)}
            known = members(owner) - set(dir(Protocol))
            self.found[owner] |= {name for name in own & known if not name.startswith("__")}

    def _look_at_hasattr(self, node: ast.Call) -> None:
        holder, name = node.args
        if owner := BY_NAME.get(ast.unparse(holder)):
            self.found[owner].add(ast.literal_eval(name))

    def _look_at_attribute(self, node: ast.Attribute) -> None:
        value = ast.unparse(node.value)
        is_set = isinstance(node.ctx, ast.Store)
        if owner := HOLDS.get(value):
            if node.attr in members(owner):
                self.found[owner].add(node.attr)
        elif owner := HALF_PUBLIC.get(value):
            is_inside = is_set or node.attr.startswith("_")
            if node.attr in members(owner) and (
                is_inside or f"{owner}.{node.attr}" in BORROWED_OF_HALF_PUBLIC
            ):
                self.found[owner].add(node.attr)
        elif (first := value.split(".")[0]) in self.imported:
            owner = self.imported[first] + value.removeprefix(first)
            if is_set or (owner not in PUBLIC and owner.count(".") > 1 and first in PACKAGES):
                self.found[owner].add(node.attr)
        elif value not in ("self", "cls", "super()") and _is_strange(node.attr):
            self.found["an owner that HOLDS does not name"].add(node.attr)


def _targets(node: ast.ClassDef) -> list[ast.Name]:
    found = []
    for each in node.body:
        targets = each.targets if isinstance(each, ast.Assign) else []
        targets = [each.target] if isinstance(each, ast.AnnAssign) else targets
        found += [target for target in targets if isinstance(target, ast.Name)]
    return found


@cache
def _our_source() -> str:
    return "\n".join(file.read_text() for file in sorted(ROOT.glob("app/**/*.py")))


def _is_strange(name: str) -> bool:
    """A private name that no class of ours has; os._exit is public."""
    if not name.startswith("_") or name.startswith("__") or name == "_exit":
        return False
    return f"self.{name}" not in _our_source()


def borrowed_in(source: str) -> dict[str, set[str]]:
    if not any(package in source for package in PACKAGES):
        return {}
    return {owner: names for owner, names in Scan(source).found.items() if names}


def listed_for(file: str) -> dict[str, set[str]]:
    return {owner: set(names.split()) for owner, names in BORROWED.get(file, {}).items()}


def files() -> list[str]:
    found = [file for room in SCANNED for file in sorted((ROOT / room).rglob("*.py"))]
    return [file.relative_to(ROOT).as_posix() for file in found]


def test_every_borrowed_name_has_a_row_and_no_row_is_left_over():
    found = {file: borrowed_in((ROOT / file).read_text()) for file in files()}
    listed = {file: listed_for(file) for file in BORROWED}
    missing, stale = _less(found, listed), _less(listed, found)
    assert (missing, stale) == ([], []), "write or strike these rows of BORROWED"


def _less(some, others) -> list[str]:
    return [
        f"{file}: {owner}.{name}"
        for file, owners in some.items()
        for owner, names in owners.items()
        for name in sorted(names - others.get(file, {}).get(owner, set()))
    ]


@pytest.mark.parametrize("file", BORROWED)
def test_what_is_borrowed_still_exists(file):
    gone = [
        f"{owner}.{name}"
        for owner, names in listed_for(file).items()
        for name in sorted(names - members(owner))
    ]
    assert gone == [], f"the installed version has dropped what {file} uses"


@pytest.mark.parametrize(
    ("source", "borrowed"),
    [
        ("from sanic.log import logger", "sanic.log.logger"),
        ("from sanic import _private", "sanic._private"),
        ("import sanic\nhttp.response_func = None", f"{HTTP}.response_func"),
        ("import sanic\nrequest._cookies", f"{REQUEST}._cookies"),
        ("import sanic\nrequest.body = b''", f"{REQUEST}.body"),
        ("import discord\ndiscord.http.Route.BASE = ''", "discord.http.Route.BASE"),
        (
            "from sanic.worker.manager import WorkerManager\n"
            "class Own(WorkerManager):\n    def ack(self): self.new = 1; self.terminate()",
            f"{MANAGER}.terminate",
        ),
    ],
)
def test_what_is_borrowed_is_found(source, borrowed):
    owner, _, name = borrowed.rpartition(".")
    assert name in borrowed_in(source)[owner]


@pytest.mark.parametrize(
    "source",
    [
        "from sanic import Request\nfrom sanic.exceptions import NotFound",
        "from sanic import Request\nrequest.headers.get('x')",
        "process.terminate()",
        "from sanic.exceptions import NotFound\nclass Own(NotFound):\n    status_code = 404",
        "import discord\ndiscord.Intents(guilds=True)",
    ],
)
def test_what_is_public_is_not(source):
    assert borrowed_in(source) == {}


def test_a_name_that_an_upgrade_drops_is_told():
    assert "_time" in members(PROTOCOL) and "recv_buffer" in members(HTTP)
    assert not {"_dropped", "response_fun"} & (members(PROTOCOL) | members(HTTP))
