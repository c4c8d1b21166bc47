"""Files that cannot be read."""

import os
from pathlib import Path

import pytest

from app.config.load import (
    ConfigError,
    load,
)
from tests.config.files import (
    as_nobody,
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "none.yaml",
            "none.yaml:1:1: file: does not exist; write the path of a YAML file after -c",
        ),
        ("", ":1:1: file: does not exist; write the path of a YAML file after -c"),
        ("c.yaml/x", "c.yaml/x:1:1: file: does not exist; write the path of a YAML file after -c"),
        ("/", "/:1:1: file: is a directory; write the path of a YAML file after -c"),
        (
            "/dev/zero",
            "/dev/zero:1:1: file: is not a regular file; write the path of a YAML file after -c",
        ),
        # Unreadable for root too.
        (
            "/proc/self/mem",
            "/proc/self/mem:1:1: file: cannot be read (Input/output error); write another path",
        ),
        (
            "a\0b",
            "a\0b:1:1: file: cannot be read (not a path); write another path",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_told(path, expected):
    Path("c.yaml").touch()
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.problems == [expected]


def test_a_file_of_somebody_else_says_whose_it_must_be(public):
    Path("c.yaml").write_text("port: 8999")
    Path("c.yaml").chmod(0)
    with as_nobody() as uid, pytest.raises(ConfigError) as caught:
        load("c.yaml", {})
    owner = os.stat("c.yaml").st_uid
    cure = f"it belongs to uid {owner}: chown it to uid {uid}, and chmod 600 it"
    told = f"c.yaml:1:1: file: cannot be read by this user (uid {uid}); "
    assert str(caught.value) == told + ("chmod u+r it" if owner == uid else cure)
