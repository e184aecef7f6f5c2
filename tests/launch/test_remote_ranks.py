"""Ranks behind a remote shell: here a small script, which runs the command on this machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from issl_engine.launch.hosts import Host
from issl_engine.launch.messages import NoMessage, Ready, Start, from_line, to_line
from issl_engine.launch.start import Reach, run_ranks

from .conftest import is_running, wait_for

HOSTS = (Host(name="127.1.1.1", slots=1), Host(name="127.1.1.2", slots=1))


@pytest.fixture(autouse=True)
def nothing_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("issl_engine.launch.start.is_here", lambda host: False)


def shell(folder: Path, text: str = 'exec sh -c "$2"') -> str:
    path = folder / "shell"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def run(arguments: list[str], folder: Path, *, remote_shell: str, seconds: float = 20.0) -> str | None:
    reach = Reach(remote_shell=remote_shell, connect_timeout_seconds=seconds)
    return run_ranks(arguments, HOSTS, logs=folder / "logs", reach=reach).message


def test_the_first_ranks_stdout_comes_here_and_the_others_goes_to_a_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--version"], tmp_path, remote_shell=shell(tmp_path)) is None
    assert capsys.readouterr().out == "issl-engine, version 0.2.0\n"
    assert "issl-engine, version 0.2.0" in (tmp_path / "logs" / "rank1.log").read_text()


def test_ranks_that_fail_are_named_with_their_hosts(tmp_path: Path) -> None:
    message = run(["nonsense"], tmp_path, remote_shell=shell(tmp_path))
    assert message is not None
    assert message.startswith(("rank 0 on 127.1.1.1: ended with exit code 2", "rank 1 on 127.1.1.2: ended with exit"))


def test_what_start_up_files_print_does_no_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"], tmp_path, remote_shell=shell(tmp_path, 'echo "Welcome"; exec sh -c "$2"')) is None
    assert capsys.readouterr().out == "issl-engine, version 0.2.0\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("echo 'no route to host' >&2; exit 255", "cannot be reached through"),
        ("echo 'no route to host' >&2; exit 127", "could not start issl-engine there (no route to host); it needs the"),
        ("echo 'no route to host' >&2; exec sleep 60", "no answer through"),
    ],
)
def test_a_host_that_cannot_be_reached(text: str, sentence: str, tmp_path: Path) -> None:
    began = time.monotonic()
    script = f'[ "$1" = 127.1.1.1 ] && exec sh -c "$2"\n{text}'
    with pytest.raises(ValueError, match=r"127\.1\.1\.2: .*\(no route to host\)") as caught:
        run(["--version"], tmp_path, remote_shell=shell(tmp_path, script), seconds=2.0)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 8
    assert not (tmp_path / "logs").exists()


def test_a_remote_shell_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the remote shell '/nowhere/rsh' cannot be started"):
        run(["--version"], tmp_path, remote_shell="/nowhere/rsh")


def test_an_agent_ends_its_ranks_when_its_supervisor_is_gone(tmp_path: Path) -> None:
    agent = subprocess.Popen(
        [sys.executable, "-m", "issl_engine.launch.agent", "127.0.0.1"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert agent.stdin is not None
    assert agent.stdout is not None
    assert isinstance(from_line(agent.stdout.readline()), Ready)
    place = {"rank": 0, "world_size": 1, "local_rank": 0, "local_world_size": 1, "host": "here"}
    recipe = tmp_path / "recipe.yaml"
    os.mkfifo(recipe)  # reading it waits for ever
    start = Start(
        arguments=["validate", str(recipe)], places=[place], master_address="127.0.0.1", master_port=1,
        logs=str(tmp_path / "logs"), environment={},
    )  # fmt: skip
    agent.stdin.write(to_line(start))
    agent.stdin.flush()

    def children() -> list[int]:
        return [int(text) for text in Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()]

    wait_for(lambda: bool(children()))
    (rank,) = children()
    assert is_running(rank)
    agent.send_signal(signal.SIGTERM)  # as a host does that shuts down, or a launcher of the remote shell
    time.sleep(0.2)
    assert is_running(rank)
    ignored = next(line for line in Path(f"/proc/{rank}/status").read_text().splitlines() if line.startswith("SigIgn"))
    assert not int(ignored.split()[1], 16) >> (signal.SIGTERM - 1) & 1, "a stop would not be heard"
    agent.stdin.close()
    agent.wait(timeout=5)
    wait_for(lambda: not is_running(rank), seconds=2)


def test_messages_survive_the_way() -> None:
    message = Ready(first_address="10.0.0.1", free_port=4, time=1.5)
    assert from_line(to_line(message)) == message
    with pytest.raises(NoMessage):
        from_line("Welcome to node 1\n")
    with pytest.raises(NoMessage):
        from_line('{"kind": "Nonsense"}\n')
