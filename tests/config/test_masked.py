"""The effective config for people: whole, and without a secret."""

import msgspec

from app.config.load import load
from app.config.masked import MASK, masked
from app.config.schema import Config
from tests.config.files import ROOT
from tests.server.canaries import Markers, config_of


def test_no_secret_of_any_field_is_told(tmp_path):
    mark = Markers()
    config = msgspec.convert(config_of(mark, "http://127.0.0.1:1", tmp_path, 2, 3), Config)
    told = msgspec.json.encode(masked(config))
    assert mark.leaks([("the effective config", told)]) == []
    assert told.count(MASK.encode()) >= len(mark.all)


def test_what_is_no_secret_is_told_as_it_is():
    told = masked(load(str(ROOT / "etc/c.yaml"), {}).config)
    plain = msgspec.to_builtins(Config())
    assert told == plain


def test_an_address_loses_its_password_only():
    config = msgspec.convert({"proxy_url": "http://user:word@proxy.example:3128"}, Config)
    assert masked(config)["proxy_url"] == f"http://{MASK}@proxy.example:3128"
