"""The port, the certificate and the data folders of this machine."""

import os
import socket
from pathlib import Path

import pytest

from app.config.load import (
    check_environment,
    load,
    report,
)
from tests.config.files import (
    as_nobody,
    load_text,
    problems_of,
)


def test_a_taken_port_is_told_at_its_line_together_with_the_other_mistakes():
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = f"wrokers: 1\nport: 127.0.0.1:{port}\n"
        line = f"port: {port} is taken by another program; stop it or write another port"
        assert problems_of(text, to_start=True) == [
            "c.yaml:1:1: wrokers: unknown key; did you mean workers?",
            f"c.yaml:2:7: {line}",
        ]
        flags = {"port": f"127.0.0.1:{port}"}
        assert problems_of("", {}, flags, to_start=True) == [f"--port: {line}"]
        reloaded = load_text("", {}, flags)  # a reload does not ask
        assert check_environment(reloaded) == [f"--port: {line}"]
    assert check_environment(reloaded) == []


def test_an_address_of_another_machine_is_told_as_the_hosts_mistake():
    (problem,) = problems_of("host: 192.0.2.1", to_start=True)
    assert problem.startswith("c.yaml:1:7: host: cannot listen there (Cannot assign requested")
    (problem,) = problems_of("port: 192.0.2.1:9", to_start=True)
    assert problem.startswith("c.yaml:1:7: port: cannot listen there (Cannot assign requested")


def pem(what: str, body: str) -> str:
    return f"-----BEGIN {what}-----\n{body}\n-----END {what}-----\n"


CERTIFICATE = pem(
    "CERTIFICATE",
    """\
MIIBhTCCASygAwIBAgIUblS/Owm/3ikiiZF7odasO4L5MRYwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjcwMTU0NTdaGA8yMTI2MTEwMzAxNTQ1
N1owDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJCZ
3/ockXmn3X0G3A/Clasn2a0FF7Ue36B+nsTLgWA2KVVLaHgEVBknrEZMVxqfCWsP
Y/If/RX4nKfOZK/5MRWjZDBiMB0GA1UdDgQWBBSDSwTc3Wv7+Xt6WINUa/RbYTQ6
OzAfBgNVHSMEGDAWgBSDSwTc3Wv7+Xt6WINUa/RbYTQ6OzAPBgNVHRMBAf8EBTAD
AQH/MA8GA1UdEQQIMAaCBHRlc3QwCgYIKoZIzj0EAwIDRwAwRAIgByJFohwH9W8y
VDqSWNirtwHkUmClMF3ry6Zo/hikkwoCIAfB+0wryg7rGRxgbYJch7R/XyHXBJWX
3guuqY7iPBM2""",
)
NAMELESS_CERTIFICATE = pem(
    "CERTIFICATE",
    """\
MIIBdjCCARugAwIBAgIUARLdbTulyE/CLkUkQCA3SG+5TZkwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjMwMjI3MzRaGA8yMTI2MTAzMDAyMjcz
NFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJCZ
3/ockXmn3X0G3A/Clasn2a0FF7Ue36B+nsTLgWA2KVVLaHgEVBknrEZMVxqfCWsP
Y/If/RX4nKfOZK/5MRWjUzBRMB0GA1UdDgQWBBSDSwTc3Wv7+Xt6WINUa/RbYTQ6
OzAfBgNVHSMEGDAWgBSDSwTc3Wv7+Xt6WINUa/RbYTQ6OzAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0kAMEYCIQDpTz4AoBIjsibFUod6sNw8pUX/fdedHSBV
jSUMGCRjbwIhAILzoAypzT6LTKCQB5Ul70Jnk0ZmiBVvc9jDKGi60bkG""",
)
ITS_KEY = pem(
    "PRIVATE KEY",
    """\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgrNYKxN5fGs3CD7ot
wFOJSvLKPaoe0D1XpiTpecleFvihRANCAASQmd/6HJF5p919BtwPwpWrJ9mtBRe1
Ht+gfp7Ey4FgNilVS2h4BFQZJ6xGTFcanwlrD2PyH/0V+JynzmSv+TEV""",
)
ANOTHER_KEY = pem(
    "PRIVATE KEY",
    """\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgODyE7DA2Xl2uGMBo
NuEGHiy5MBIkV6XvIOCekcfYp6+hRANCAATeTZCANb+VgbI3w6Mu/hbnL/4ZQUgy
2B3fV3R7ouLZT+v+3SVAxy0UEYD2s7GcpG1lQvj6JHWBAzBPXk4LyBRR""",
)
HTTPS = "https_info:\n  enable: true\n  pem_file: c.pem\n  key_file: k.pem\n"


@pytest.mark.parametrize(
    ("certificate", "key", "expected"),
    [
        (CERTIFICATE, ITS_KEY, None),
        (NAMELESS_CERTIFICATE, ITS_KEY, "3:13: https_info.pem_file: names no host"),
        (
            CERTIFICATE,
            ANOTHER_KEY,
            "3:13: https_info.pem_file: the certificate and key_file cannot",
        ),
        (pem("CERTIFICATE", "AAAA"), ITS_KEY, "3:13: https_info.pem_file: the certificate and key"),
        (CERTIFICATE, pem("ENCRYPTED PRIVATE KEY", "AAAA"), "4:13: https_info.key_file: is encry"),
        (CERTIFICATE, CERTIFICATE, "4:13: https_info.key_file: holds no PRIVATE KEY in PEM form"),
    ],
)
def test_the_certificate_and_its_key_are_tried(certificate, key, expected):
    Path("c.pem").write_text(certificate)
    Path("k.pem").write_text(key)
    if expected:
        (problem,) = problems_of(HTTPS)
        assert problem.startswith(f"c.yaml:{expected}")
    else:
        assert report(load_text(HTTPS)).splitlines()[-2] == "listens on https://0.0.0.0:8999"


@pytest.mark.parametrize("mode", [0o555, 0o444])
def test_a_data_folder_that_cannot_be_written_is_told_with_the_cure(public, mode):
    text = "openai: {api_keys: [{id: a, val: '${KEY}'}], web_sessions: [{id: a, val: '${WEB}'}]}"
    environ = {"KEY": "sk-1", "WEB": "token"}
    assert load_text(text, environ).warnings == []
    Path("c.yaml").chmod(0o644)
    Path("data").mkdir(mode=mode)
    with as_nobody() as uid:
        (warning,) = load("c.yaml", environ).warnings  # three paths, one folder
    assert warning.startswith(
        f"c.yaml:1:1: state_path: this user (uid {uid}) cannot write in {public / 'data'},"
        " so it is lost at the next start; "
    )
    cure = f"chown it to uid {uid}" if os.geteuid() == 0 else "mount it writable, or chmod u+wx it"
    assert warning.endswith(f"; {cure}, or write another path")


def test_traces_without_their_packages_are_a_mistake_at_their_line(monkeypatch):
    text = "traces: {endpoint: 'http://127.0.0.1:4318'}\n"
    assert load_text(text).config.traces.endpoint
    monkeypatch.setattr("app.config.startup_checks.find_spec", lambda name: None)
    (told,) = problems_of(text)
    assert told.startswith("c.yaml:1:") and told.endswith("pip install -r requirements-otel.txt")
    assert load_text("traces: {sample: 0.5}\n").config.traces.sample == 0.5
