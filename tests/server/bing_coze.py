"""A config whose Bing, Coze and Discord are the simulator."""

from tests.server.running import free_port

CHANNEL = "1300000000000000001"
COZE_BOTS = ["1400000000000000001", "1400000000000000002"]


def config_for(simulator_url: str, **discord) -> dict:
    websocket = simulator_url.replace("http", "ws", 1)
    return {
        "bing": {"web_url": f"{simulator_url}/bing", "ws_url": f"{websocket}/bing"},
        "coze": {
            "api_url": f"{simulator_url}/coze",
            "api_chat": {
                "access_token": "pat_global",
                "bots": [
                    {"bot_id": "73790001", "user": "u1"},
                    {"bot_id": "73790002", "user": "u2", "access_token": "pat_own"},
                    *(
                        {"bot_id": name, "user": "faults"}
                        for name in (
                            "code-4100",
                            "code-4016",
                            "code-4008",
                            "event-5000",
                            "sim-cut-after-4",
                            "sim-drip-200",
                        )
                    ),
                ],
            },
            "discord": {
                "enable": True,
                "api_url": f"{simulator_url}/discord",
                "gateway_url": f"{websocket}/discord/gw",
                "guild_id": "1100000000000000001",
                "channel_id": CHANNEL,
                "chat_bot_token": "bot-listener",
                "coze_bot": COZE_BOTS,
                "auth": ["user-one", "user-two"],
                "quiet_seconds": 0.6,
                "bridge_port": free_port(),
            }
            | discord,
        },
    }
