"""What is kept of calls where the config says so: which of them, how much, without secrets."""

import json

from app.accounting import call_files
from app.accounting.call_files import CallFiles
from app.telemetry.call_log import CallRecord
from app.telemetry.redaction import redact


def a_record(id="r1", outcome="complete", status=200):
    return CallRecord(request_id=id, route="/c", outcome=outcome, status=status)


def kept(folder) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]


def test_a_call_is_kept_without_the_secrets_of_the_config(tmp_path):
    redact.set_config_secrets(["sk-of-the-operator-123456"])
    files = CallFiles(tmp_path / "calls", 10**6, only_errors=False)
    files.keep(a_record(), b'{"a":"sk-of-the-operator-123456"}', [b"data: o", b"ne\xff\n\n"])
    files.close()
    (one,) = kept(tmp_path / "calls")
    assert one["request"] == '{"a":"[secret]"}' and one["answer"] == "data: one\\xff\n\n"
    assert one["call"]["request_id"] == "r1"
    (file,) = (tmp_path / "calls").iterdir()
    assert file.stat().st_mode & 0o077 == 0 == (tmp_path / "calls").stat().st_mode & 0o077


def test_of_errors_only_those(tmp_path):
    files = CallFiles(tmp_path, 10**6, only_errors=True)
    files.keep(a_record("good"), b"{}", [])
    files.keep(a_record("cut", outcome="upstream_cut"), b"{}", [b"half"])
    files.keep(a_record("refused", outcome="refused", status=400), b"{}", [])
    files.close()
    assert [one["call"]["request_id"] for one in kept(tmp_path)] == ["cut", "refused"]


def test_the_folder_is_bounded_and_the_oldest_go(tmp_path, monkeypatch):
    monkeypatch.setattr(call_files, "SWEEP_SECONDS", -1.0)
    files = CallFiles(tmp_path, 5000, only_errors=False)
    for n in range(20):
        files.keep(a_record(f"r{n}"), b"x" * 1000, [])
    files.close()
    ids = [one["call"]["request_id"] for one in kept(tmp_path)]
    assert ids == ["r16", "r17", "r18", "r19"]


def test_a_folder_that_cannot_be_made_fails_no_call(tmp_path, caplog):
    (tmp_path / "calls").write_text("a file")
    files = CallFiles(tmp_path / "calls", 5000, only_errors=False)
    files.keep(a_record(), b"{}", [])
    files.close()
    assert "cannot be kept" in caplog.text
