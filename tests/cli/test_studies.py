"""`windward simulate` and `windward backtest` as a user meets them."""

from __future__ import annotations

ONE = ("--jobs", "12", "--days", "1", "--zones", "DE,FR", "--foresight", "yesterday")


def test_simulate_answers_with_one_line_a_policy_and_says_whose_data_it_is(windward):
    said = windward("simulate", *ONE, "--policy", "run-now,windward")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("run-now", "windward"))] == ["run-now", "windward"]
    assert "no plan can save more than" in said.out and "DEMO TRACE 2022, not for reporting" in said.out


def test_simulate_as_json_and_as_a_page_tell_the_same(windward, tmp_path):
    page = tmp_path / "study.html"
    said = windward(
        "simulate", *ONE, "--policy", "windward", "--faults", "late_jobs=0.5", "-o", "json", "--page", str(page)
    )
    made = said.json()
    policy = made["policies"][0]
    assert policy["arrived"] == policy["finished"] + policy["failed"] + policy["unfinished"] == 12
    assert made["faults"] == {"late_jobs": 0.5, "late_factor": 1.5} and made["demo"] is True
    html = page.read_text()
    assert f"{policy['savedPercent']:.1f} %" in html and "not for reporting" in html and html.count("<svg") == 2
    assert "http" not in html, "a page that asks nobody"


def test_backtest_of_a_users_own_job(windward):
    said = windward("backtest", "-f", "examples/train.yaml", "--zone", "DE", "--every", "60d", "--policy", "all",
                    "--foresight", "perfect")  # fmt: skip
    assert said.code == 0, said.err
    assert "nightly-finetune: 6 submissions in 2022" in said.out
    assert all(p in said.out for p in ("run-now", "greenest-now", "window", "windward", "clairvoyant"))


def test_mistakes_are_named_with_a_fix(windward):
    cases = [
        (("simulate", "--policy", "magic"), "--policy magic: not known"),
        (("simulate", "--zones", "ATLANTIS"), "zone ATLANTIS: not in trace:2022"),
        (("simulate", *ONE, "--faults", "bad_luck=1"), "--faults bad_luck: not known"),
        (("simulate", *ONE, "--foresight", "magic"), "--foresight magic: not known"),
        (("simulate", "--fleet", "missing.csv", "--zones", "DE"), "--fleet:"),
        (("backtest", "-f", "examples/train.yaml", "--zone", "DE", "--year", "1999", "--foresight", "perfect"), "1999"),
    ]
    for arguments, word in cases:
        said = windward(*arguments)
        assert said.code == 2 and word in said.err, (arguments, said.err)
