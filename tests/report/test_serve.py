"""The live view: what it answers, and what it never does."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from issl_engine.cli import main
from issl_engine.report.find_runs import find_runs
from issl_engine.report.run_folder import ReportError
from issl_engine.report.serve import LOOPBACK, RunServer

from .run_folders import make_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    make_run(tmp_path / "runs" / "one", {"a": 60.0}, seeds=[0], status="running")
    make_run(tmp_path / "runs" / "deeper" / "two", {"b": 60.0}, seeds=[0])
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path / "runs"


@pytest.fixture
def server(runs: Path) -> Iterator[RunServer]:
    with RunServer([runs], 0) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def get(server: RunServer, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection(LOOPBACK, server.server_port, timeout=10)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, content, dict(answer.getheaders())


def place_of(server: RunServer, name: str) -> str:
    return next(f"/run/{digest}/" for digest, folder in server.runs().items() if folder.name == name)


def test_index_lists_runs_and_finds_new_ones(server: RunServer, runs: Path) -> None:
    status, page, _ = get(server, "/")
    assert status == 200
    assert f'<a href="{place_of(server, "one")}">one</a>' in page
    assert "running" in page
    make_run(runs / "three", {"c": 60.0}, seeds=[0])
    assert ">three</a>" in get(server, "/")[1]


def test_page_asks_its_own_server_alone(server: RunServer) -> None:
    status, page, headers = get(server, place_of(server, "one"))
    assert status == 200
    assert "<body data-live>" in page
    assert "connect-src 'self'" in page
    assert headers["Cache-Control"] == "no-store"


def test_news_follow_the_files_and_are_not_sent_twice(server: RunServer, runs: Path) -> None:
    place = place_of(server, "one") + "data.json"
    status, text, headers = get(server, place)
    assert status == 200
    assert json.loads(text)["run"]["under_way"] is True
    assert json.loads(text)["run"]["rows"][0]["seeds"][0]["curves"]["step"][-1] == 50
    assert get(server, place, If_None_Match=headers["ETag"])[:2] == (304, "")
    metrics = runs / "one" / "a" / "seed0" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 60, "epoch": 6.0, "loss": 3.5, "images_per_second": 9}\n{"st')
    status, text, _ = get(server, place, If_None_Match=headers["ETag"])
    assert status == 200
    assert json.loads(text)["run"]["rows"][0]["seeds"][0]["curves"]["step"][-1] == 60


def test_half_written_files_are_no_end_of_it(server: RunServer, runs: Path) -> None:
    record = runs / "one" / "run.json"
    whole = record.read_text()
    record.write_text(whole[:20])
    place = place_of(server, "one") + "data.json"
    status, page, _ = get(server, place)
    assert status == 503
    assert "run.json: the file is damaged" in page
    assert get(server, "/")[0] == 200
    record.write_text(whole)
    assert get(server, place)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/run/../../secret.txt", "/run/%2e%2e/%2e%2e/secret.txt", "//secret.txt", "/run/x/data.json",
        "{place}../../../secret.txt", "{place}run.json", "{place}..%2frun.json", "{place}/data.json", "/run/",
    ],
)  # fmt: skip
def test_no_other_path_leads_anywhere(server: RunServer, path: str) -> None:
    status, page, _ = get(server, path.format(place=place_of(server, "one")))
    assert status == 404
    assert "secret" not in page
    assert "seeds" not in page


def test_other_names_for_this_machine_are_refused(server: RunServer) -> None:
    assert get(server, "/", Host=f"evil.example:{server.server_port}")[0] == 403
    assert get(server, "/", Host=f"localhost:{server.server_port}")[0] == 200


def test_it_listens_on_loopback_alone(server: RunServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert not any("host" in str(option.opts) for option in main.get_command(None, "serve").params)  # type: ignore[arg-type, union-attr]


def test_a_port_in_use_is_one_sentence_that_names_a_free_one(server: RunServer, runs: Path) -> None:
    done = CliRunner().invoke(main, ["serve", str(runs), "--port", str(server.server_port)])
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert f"port {server.server_port} is in use" in line
    free = int(line.split("--port ")[-1].split()[0])
    assert free > server.server_port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, free))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="there is no such folder"):
        RunServer([tmp_path / "nothing"], 0)


def test_runs_are_found_below_folders_and_not_through_links(runs: Path, tmp_path: Path) -> None:
    outside = make_run(tmp_path / "outside", {"x": 1.0}, seeds=[0])
    (runs / "link").symlink_to(outside)
    assert [run.name for run in find_runs([runs])] == ["two", "one"]
    assert find_runs([runs / "one", runs]) == find_runs([runs])


def _as_in_a_terminal() -> None:
    """What a shell starts in the background, these tests too, ignores Ctrl-C and hands that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_it_in_peace(runs: Path) -> None:
    command = [sys.executable, "-m", "issl_engine", "serve", str(runs), "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=_as_in_a_terminal,
    )  # fmt: skip
    assert process.stdout is not None
    assert "serving 2 runs at http://127.0.0.1:" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert errors == "stopped\n"
