"""Local tools: what a model calls runs here, and the request goes on with the results."""

import asyncio
import json
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from batcher.errors import ConfigurationError
from batcher.ledger.connect import open_engine
from batcher.ledger.maintenance import verify
from batcher.messages.request import Purpose
from batcher.pipeline.choices import AnswerChoices, Tool, ToolTable, answer_choices
from batcher.pipeline.engine.tools import MOST_OUTPUT_BYTES, run_tool
from batcher.report.export.answers import ExportOptions, export_answers
from tests.making_runs import (
    FakeLane,
    answered,
    endpoint_of,
    photograph,
    row,
    rows,
    simulating,
    unknown,
    until,
)

ADD = """
import json, sys
call = json.load(sys.stdin)
with open("calls.txt", "a") as calls:
    calls.write("x")
print(call["a"] + call["b"])
"""


def tool(folder: Path, program: str = ADD, name: str = "add", **changes) -> Tool:
    (folder / f"{name}.py").write_text(program)
    given = {"environment": {"PATH": "/usr/bin:/bin"}, "timeout_seconds": 20.0, **changes}
    command = (sys.executable, f"{name}.py")
    return Tool(name=name, command=command, folder=folder, **given)


def choices(*tools: Tool) -> AnswerChoices:
    return AnswerChoices(tools={tool.name: tool for tool in tools})


def call(name: str = "add", number: int = 1, **given) -> dict:
    return {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": given}


def calling(*blocks: dict, text: str = "let me see "):
    content = [{"type": "text", "text": text}, *blocks]
    return answered(content=content, stop_reason="tool_use")


def adding(attempt):
    """Calls twice in the first leg, once in the second, then ends."""
    if attempt.leg == 1:
        return calling(call(a=1, b=2), call(number=2, a=3, b=4))
    return calling(call(number=3, a=5, b=6)) if attempt.leg == 2 else answered("done")


def results(attempt) -> list[dict]:
    message = json.loads(attempt.body)["messages"][-1]
    assert message["role"] == "user"
    assert {block["type"] for block in message["content"]} == {"tool_result"}
    return message["content"]


def run_one(tool: Tool, **given) -> dict:
    return asyncio.run(run_tool(tool, json.dumps(given).encode()))


def ran(folder: Path) -> int:
    return len((folder / "calls.txt").read_text())


# --- The loop


def test_calls_are_run_and_answered_until_the_model_is_done(on_both, tmp_path):
    on_both.write([row("x", "x")])
    on_both.options["answers"] = choices(tool(tmp_path))
    lane = FakeLane(adding)
    assert on_both.run(lane).exit_code == 0
    assert [attempt.purpose for attempt in lane.sent] == ["first", "tool", "tool"]
    assert [(b["tool_use_id"], b["content"]) for b in results(lane.sent[1])] == [
        ("toolu_1", "3"),
        ("toolu_2", "7"),
    ]
    assert results(lane.sent[2])[0]["content"] == "11"
    roles = [message["role"] for message in json.loads(lane.sent[2].body)["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    found = on_both.ask("SELECT text, legs, input_tokens, stop_reason FROM v_answers")
    assert found == [("done", 3, 30, "end_turn")]
    assert on_both.one("SELECT COUNT(*) FROM v_answers_all WHERE final = 0") == 2
    assert on_both.one("SELECT COUNT(*) FROM attempts WHERE pending = 1") == 0


def test_what_the_model_wrote_goes_back_verbatim(case, tmp_path):
    case.write([row("x")])
    case.options["answers"] = choices(tool(tmp_path))
    thought = {"type": "thinking", "thinking": "", "signature": "c2ln", "odd": 1.0}
    block = call(a=1, b=2) | {"caller": {"type": "direct"}}
    first = answered(content=[thought, block], stop_reason="tool_use")
    lane = FakeLane(lambda a: first if a.leg == 1 else answered())
    case.run(lane)
    assert first.answer.content in lane.sent[1].body


def test_the_content_of_a_tool_loop_is_that_of_all_its_legs(case, tmp_path):
    case.write([row("x")])
    case.options["answers"] = choices(tool(tmp_path))
    case.run(FakeLane(adding))
    kinds = [block["type"] for block in json.loads(case.one("SELECT content FROM v_answers"))]
    assert kinds == ["text", "tool_use", "tool_use", "text", "tool_use", "text"]


@pytest.mark.parametrize("configured", [False, True])
def test_a_call_that_nobody_configured_ends_the_request_with_its_input(
    case, tmp_path, configured
):
    case.write([row("x")])
    if configured:
        case.options["answers"] = choices(tool(tmp_path))
    lane = FakeLane(lambda _: calling(call(a=1, b=2), call("other", 2, q="?")))
    assert case.run(lane).exit_code == 0
    assert len(lane.sent) == 1
    ((content, reason),) = case.ask("SELECT content, stop_reason FROM v_answers")
    assert (json.loads(content)[2]["input"], reason) == ({"q": "?"}, "tool_use")
    assert not (tmp_path / "calls.txt").exists()


def test_a_call_without_an_id_is_recorded_and_not_run(case, tmp_path):
    case.write([row("x")])
    case.options["answers"] = choices(tool(tmp_path))
    broken = {"type": "tool_use", "name": "add", "input": {"a": 1, "b": 2}}
    lane = FakeLane(lambda _: calling(broken))
    assert case.run(lane).exit_code == 0
    assert len(lane.sent) == 1


def test_a_loop_ends_at_the_cap_of_legs(case, tmp_path):
    case.write([row("x")])
    case.options["answers"] = choices(tool(tmp_path))
    lane = FakeLane(lambda a: calling(call(number=a.leg, a=1, b=1)))
    assert case.limit(max_legs=3).run(lane).exit_code == 0
    assert case.ask("SELECT legs, stop_reason FROM v_answers") == [(3, "tool_use")]
    assert ran(tmp_path) == 2


def test_a_tool_is_called_as_often_as_allowed_and_no_more(case, tmp_path):
    case.write([row("x")])
    case.options["answers"] = choices(tool(tmp_path, max_calls=2))
    lane = FakeLane(adding)
    case.run(lane)
    assert ran(tmp_path) == 2
    (refused,) = results(lane.sent[2])
    assert refused["is_error"]
    assert "may be called 2 times" in refused["content"]


def test_a_lost_answer_is_asked_for_again_and_no_tool_runs_again(case, tmp_path):
    case.write([row("x")])
    case.options["answers"] = choices(tool(tmp_path))
    outcomes = iter([calling(call(a=1, b=2)), unknown(), answered("done")])
    lane = FakeLane(lambda _: next(outcomes))
    assert case.run(lane).exit_code == 0
    assert lane.sent[1].body == lane.sent[2].body
    assert ran(tmp_path) == 1


def test_many_rows_use_tools_side_by_side_under_a_cap_on_money(case, tmp_path):
    case.write(rows(12))
    case.options["answers"] = choices(tool(tmp_path))
    lane = FakeLane(lambda a: calling(call(a=1, b=2)) if a.leg == 1 else answered("3"))
    ended = case.limit(max_cost=10**12).run(lane)
    assert (ended.exit_code, ended.progress.answered) == (0, 12)
    assert ran(tmp_path) == 12


def test_the_simulators_own_tool_loop_ends(case, tmp_path):
    echo = tool(tmp_path, "import sys; print(sys.stdin.read())", "look")
    schema = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    tools = [{"name": "look", "input_schema": schema}]
    case.write([row("find it", "x", tools=tools), row("[[stop:tool_use]]", "y", tools=tools)])
    case.options["answers"] = choices(echo)
    with simulating() as simulator:
        case.endpoint = endpoint_of(simulator)
        assert case.run().exit_code == 0
    found = case.ask("SELECT legs, stop_reason FROM v_answers")
    assert [legs for legs, _ in found] == [2, 2]
    assert "tool_use" not in [reason for _, reason in found]


def cut_off_after_a_tool(attempt):
    if attempt.leg == 1:
        return calling(call(a=1, b=2))
    room = json.loads(attempt.body)["max_tokens"]
    return answered("3", stop_reason="max_tokens" if room == 256 else "end_turn")


@pytest.mark.parametrize("killed", [False, True])
def test_a_leg_that_was_replaced_is_paid_for_and_no_part_of_the_answer(
    on_both, tmp_path, killed
):
    on_both.write([row("x", "x")])
    on_both.options["answers"] = replace(choices(tool(tmp_path)), raise_factor=Fraction(2))
    lane = FakeLane(cut_off_after_a_tool)
    if killed:

        async def abort(engine):
            await until(lambda: len(lane.sent) == 3)
            engine.abort()

        assert run_with(on_both, lane, abort, hang_at=3).rows_left
        assert ran(tmp_path) == 1
    assert on_both.run(lane).exit_code == 0
    found = on_both.ask("SELECT legs, input_tokens, output_tokens, text FROM v_answers")
    assert found == [(2, 20, 10, "3")]
    assert on_both.one("SELECT SUM(input_tokens) FROM v_answers_all") == 30
    last = json.loads(lane.sent[-1].body)
    assert (last["max_tokens"], len(last["messages"])) == (512, 3)
    assert ran(tmp_path) == 1
    assert not problems(on_both)
    (exported,) = export(on_both)
    assert (exported["legs"], exported["input_tokens"], exported["text"]) == (2, 20, "3")


def problems(case) -> tuple:
    engine = open_engine(case.database, read_only=True)
    try:
        return verify(engine).findings
    finally:
        engine.dispose()


def export(case) -> list[dict]:
    engine, target = open_engine(case.database, read_only=True), case.folder / "out.jsonl"
    try:
        export_answers(engine, 1, ExportOptions(target=str(target)), lambda _: None)
    finally:
        engine.dispose()
    return [json.loads(line) for line in target.read_text().splitlines()]


# --- Killed


@pytest.mark.parametrize("leg", [2, 3])
def test_a_killed_loop_goes_on_from_its_last_results(case, tmp_path, leg):
    case.write([row("x", "x")])
    case.options["answers"] = choices(tool(tmp_path))
    photo = tmp_path / "killed.db"

    async def script(attempt):
        if attempt.leg == leg:
            photograph(case.database, photo)
        return adding(attempt)

    case.run(FakeLane(script))
    (tmp_path / "calls.txt").unlink()
    after = replace(case, database=str(photo))
    lane = FakeLane(adding)
    assert after.run(lane).exit_code == 0
    assert [attempt.leg for attempt in lane.sent] == list(range(leg, 4))
    assert results(lane.sent[-1])[0]["content"] == "11"
    calls = tmp_path / "calls.txt"
    assert calls.exists() == (leg == 2)  # those of the second leg; never those of the first
    assert after.ask("SELECT text, legs FROM v_answers") == [("done", 3)]


def test_a_run_killed_while_a_tool_runs_runs_it_again(on_both, tmp_path):
    on_both.write([row("x", "x")])
    slow = "import sys, time; open('began', 'w'); time.sleep(60)"
    on_both.options["answers"] = choices(tool(tmp_path, slow))
    lane = FakeLane(lambda a: calling(call(a=1, b=2)) if a.leg == 1 else answered("done"))

    async def abort_when_it_began(engine):
        await until((tmp_path / "began").exists)
        engine.abort()

    ended = run_with(on_both, lane, abort_when_it_began)
    assert ended.rows_left
    assert on_both.one("SELECT COUNT(*) FROM tool_results") == 0
    on_both.options["answers"] = choices(tool(tmp_path))
    again = FakeLane(lambda _: answered("done"))
    assert on_both.run(again).exit_code == 0
    assert results(again.sent[0])[0]["content"] == "3"
    assert [attempt.purpose for attempt in again.sent] == [Purpose.TOOL]


def run_with(case, lane, act, hang_at=None):
    """One invocation, and `act` on its engine as soon as something is sent.

    Attempt number `hang_at` gets no answer.
    """
    import batcher.pipeline.run.engines as room

    engines, tasks = [], []

    class Watched(room.Engine):
        def __post_init__(self):
            super().__post_init__()
            engines.append(self)

    async def script(attempt):
        if not tasks:
            tasks.append(asyncio.ensure_future(act(engines[0])))
        if attempt.number == hang_at:
            await asyncio.Event().wait()
        return original(attempt)

    original, lane._script = lane._script, script
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "Engine", Watched)
        ended = case.run(lane)
    lane._script = original
    return ended


def test_an_aborted_run_kills_what_its_tools_started(case, tmp_path):
    case.write([row("x")])
    program = (
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "open('pid', 'w').write(str(child.pid))\n"
        "child.wait()\n"
    )
    case.options["answers"] = choices(tool(tmp_path, program))

    async def abort_when_it_began(engine):
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        engine.abort()

    run_with(case, FakeLane(lambda _: calling(call(a=1, b=2))), abort_when_it_began)
    pid = (tmp_path / "pid").read_text()
    asyncio.run(until(lambda: is_gone(pid)))


def is_gone(pid: str) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_tools_that_are_gone_at_the_next_start_are_an_error_for_the_model(case, tmp_path):
    case.write([row("x")])
    case.options["answers"] = choices(tool(tmp_path, "import sys; sys.exit(1)"))
    photo = tmp_path / "killed.db"

    async def script(attempt):
        if attempt.leg == 2:
            photograph(case.database, photo)
        return calling(call(a=1, b=2)) if attempt.leg == 1 else answered()

    case.run(FakeLane(script))
    after = replace(case, database=str(photo), options={})
    lane = FakeLane(lambda _: answered("never mind"))
    assert after.run(lane).exit_code == 0
    assert after.one("SELECT text FROM v_answers") == "never mind"


# --- One command


def test_a_tool_gets_its_input_as_it_came_and_few_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    program = "import os, sys; print(sys.stdin.read(), sorted(os.environ), os.getcwd())"
    said = run_one(tool(tmp_path, program), q="?")["content"]
    assert '{"q": "?"}' in said
    assert "ANTHROPIC_API_KEY" not in said
    assert str(tmp_path) in said


def test_no_shell_looks_at_what_a_tool_is_given(tmp_path):
    echo = replace(tool(tmp_path), command=("/bin/echo", "$HOME", "; ls", "*"))
    assert run_one(echo) == {"content": "$HOME ; ls *"}


def test_blocks_of_content_are_passed_on_and_other_json_is_text(tmp_path):
    blocks = [{"type": "text", "text": "hi"}]
    assert run_one(tool(tmp_path, f"print({json.dumps(blocks)!r})")) == {"content": blocks}
    assert run_one(tool(tmp_path, "print([1, 2])")) == {"content": "[1, 2]"}
    assert run_one(tool(tmp_path, 'print(\'[{"type": "tool_use"}]\')'))["content"]


def test_a_tool_that_says_nothing_has_a_result_without_content(tmp_path):
    assert run_one(tool(tmp_path, "pass")) == {}


MOVED_AWAY = """
import subprocess, sys, time
waiting = "import pathlib, time\\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)"
subprocess.Popen(
    [sys.executable, "-c", waiting], start_new_session=True, stderr=subprocess.DEVNULL
)
"""


@pytest.mark.parametrize(
    ("program", "said"),
    [("time.sleep(600)", "longer than 2 seconds"), ("print('x' * 10**7)", "wrote more than")],
)
def test_a_tool_whose_child_moved_away_with_its_output_holds_nothing_up(
    tmp_path, program, said
):
    try:
        result = run_one(tool(tmp_path, MOVED_AWAY + program, timeout_seconds=2))
    finally:
        (tmp_path / "go").touch()
    assert said in result["content"]


def test_a_tool_that_does_not_read_its_input_is_heard(tmp_path):
    deaf = tool(tmp_path, "import sys; sys.stdin.close(); print('la la')")
    assert run_one(deaf, text="x" * 500_000) == {"content": "la la"}


def test_bytes_that_are_no_text_do_not_break_the_request(tmp_path):
    noise = tool(tmp_path, r"import sys; sys.stdout.buffer.write(b'a\xff\x00b')")
    assert run_one(noise) == {"content": "a\ufffd\x00b"}
    noise = tool(tmp_path, r"import sys; sys.stdout.buffer.write(b'[\"\xff\"]')")
    assert run_one(noise) == {"content": '["\ufffd"]'}


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('no such city')", "status 1: no such city"),
        ("import os; os.kill(os.getpid(), 9)", "status -9: it gave no reason"),
        (f"print('x' * {MOST_OUTPUT_BYTES + 1})", "wrote more than 262,144 bytes"),
        ("while True: print('x' * 1000)", "wrote more than"),
        ("import sys\nsys.stderr.write('y' * 10**6 + 'end')\nsys.exit(3)", "end"),
    ],
)
def test_what_goes_wrong_is_told_to_the_model(tmp_path, program, said):
    result = run_one(tool(tmp_path, program))
    assert result["is_error"]
    assert said in result["content"]
    assert len(result["content"]) < 3_000


def test_a_tool_that_takes_too_long_is_killed(tmp_path):
    slow = tool(tmp_path, "import time; time.sleep(600)", timeout_seconds=0.2)
    assert "longer than 0.2 seconds" in run_one(slow)["content"]


def test_a_program_that_vanished_is_told_to_the_model(tmp_path):
    gone = replace(tool(tmp_path), command=("./gone",))
    assert "could not be started" in run_one(gone)["content"]


# --- The job file


def configured(folder, environment=None, **table):
    given = ToolTable(**({"command": (sys.executable,)} | table))
    known = {"PATH": "/usr/bin:/bin"} | (environment or {})
    return answer_choices(
        None,
        None,
        tools={table.pop("name", "add"): given} if "name" not in table else {},
        validate=None,
        folder=folder,
        environment=lambda names: {n: known[n] for n in names if n in known},
    ).tools["add"]


def test_a_tool_gets_the_variables_that_it_names(tmp_path):
    found = configured(tmp_path, {"CITY_KEY": "k", "OTHER": "o"}, env=("CITY_KEY",))
    assert found.environment == {"PATH": "/usr/bin:/bin", "CITY_KEY": "k"}
    assert "CITY_KEY" not in repr(found)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"command": ()}, "command is a list"),
        ({"command": ("no-such-program-here",)}, "no program"),
        ({"command": ("./missing.sh",)}, "no program"),
        ({"timeout_seconds": 0}, "above 0"),
        ({"max_calls": 0}, "above 0"),
        ({"env": ("NOT_SET",)}, "NOT_SET, which is not set"),
    ],
)
def test_a_tool_that_could_not_run_is_refused_before_anything_is_sent(tmp_path, table, said):
    with pytest.raises(ConfigurationError, match=said):
        configured(tmp_path, **table)


def test_a_job_file_names_tools_that_run_beside_it(tmp_path):
    from batcher import wiring

    (tmp_path / "tool.sh").write_text("#!/bin/sh\ncat\n")
    (tmp_path / "tool.sh").chmod(0o755)
    job = tmp_path / "job.toml"
    job.write_text(
        'inputs = ["rows.jsonl"]\non_truncate = "raise=2x"\n'
        '[tools.city]\ncommand = ["./tool.sh"]\ntimeout_seconds = 5\n'
    )
    answers = wiring.resolve(wiring.asked((), job, None)).answers
    assert answers.tools["city"].folder == tmp_path.resolve()
    assert answers.raise_factor == 2
    assert run_one(answers.tools["city"], q=1) == {"content": '{"q": 1}'}
