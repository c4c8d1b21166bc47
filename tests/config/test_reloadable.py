"""Keys that a reload cannot change."""

import msgspec
import pytest

from app.config.reloadable import keep_unreloadable
from app.config.schema import Bing, Config, Coze, CozeDiscord, HttpsInfo

RUNNING = Config(port="8999", host="127.0.0.1")


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ({"port": "9000"}, ["port"]),
        ({"host": "127.0.0.2"}, ["host"]),
        ({"https_info": HttpsInfo(enable=True)}, ["https_info"]),
        ({"coze": Coze(discord=CozeDiscord(enable=True))}, ["coze.discord"]),
    ],
)
def test_what_the_process_is_bound_to_stays_and_is_named(wanted, kept):
    wanted = msgspec.structs.replace(RUNNING, bing=Bing(proxy_url="http://a"), **wanted)
    config, names = keep_unreloadable(RUNNING, wanted)
    assert names == kept
    assert config == msgspec.structs.replace(RUNNING, bing=Bing(proxy_url="http://a"))


def test_another_way_to_write_the_same_address_is_no_change():
    wanted = Config(port="127.0.0.1:8999")
    assert keep_unreloadable(RUNNING, wanted) == (wanted, [])
