"""What the environment may say, and what a path may not."""

import os
import signal

import pytest

from windward_worker.control import PauseRequest, PauseRequested, Refused, read_env


def test_an_empty_environment_is_a_local_run():
    env = read_env({})
    assert (env.job, env.job_name, env.run) == ("default/local", "local", "local-1")
    assert env.report_file is None and env.power_w is None


def test_every_variable_of_the_contract_is_read(world):
    env = read_env({**world.environ, "WINDWARD_POWER_WATTS": "350.5", "WINDWARD_EXIT_FILE": "exit.json"})
    assert env.job_name == "job" and env.power_w == 350.5
    assert env.storage_dir == world.storage and env.exit_file.is_absolute()


@pytest.mark.parametrize("text", ["0", "-5", "nan", "inf", "350W", "1e9"])
def test_an_implausible_power_is_refused(text):
    with pytest.raises(Refused, match=r"WINDWARD_POWER_WATTS.*give watts"):
        read_env({"WINDWARD_POWER_WATTS": text})


def test_a_store_is_a_folder_or_a_uri(world):
    env = read_env({"WINDWARD_CHECKPOINT_URI": "s3://b/checkpoints/j", "WINDWARD_STORAGE_URI": "s3://b"})
    assert (env.checkpoint_uri, env.storage_uri) == ("s3://b/checkpoints/j", "s3://b")
    assert world.env.checkpoint_uri is None and world.env.storage_uri is None
    with pytest.raises(Refused, match=r"keeps its state in a folder.*spec\.storage\.claimName"):
        env.need_checkpoint_dir()
    for what in ("CHECKPOINT", "STORAGE"):
        with pytest.raises(Refused, match=f"WINDWARD_{what}_DIR and WINDWARD_{what}_URI are both set: unset one"):
            read_env({**world.environ, f"WINDWARD_{what}_URI": "s3://b"})


@pytest.mark.parametrize("need", ["need_checkpoint_dir", "need_storage_dir"])
def test_a_missing_folder_is_named(need):
    with pytest.raises(Refused, match=r"WINDWARD_\w+_DIR is not set.*set it"):
        getattr(read_env({}), need)()


@pytest.mark.parametrize("path", ["../up", "a/../../up", "link/secret", "link"])
def test_no_path_leads_out_of_the_storage(world, path):
    (world.storage / "link").symlink_to(world.root)
    with pytest.raises(Refused, match="outside the storage"):
        world.env.inside_storage(path)


def test_a_path_inside_is_taken(world):
    assert world.env.inside_storage("text/../text/rules.py") == world.storage / "text" / "rules.py"


def test_a_signal_asks_for_a_pause_once():
    old = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        pause = PauseRequest().install()
        pause.check()
        os.kill(os.getpid(), signal.SIGTERM)
        assert pause.requested
        with pytest.raises(PauseRequested):
            pause.check()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):  # the second time, a user means it
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, old[0])
        signal.signal(signal.SIGINT, old[1])
