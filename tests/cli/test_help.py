"""How the commands explain themselves: groups, sections, examples, near misses, completion."""

import re
import shlex
import subprocess
import sys

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from batcher.cli.menu import COMMANDS, MENU, group


def typed(*arguments):
    return CliRunner().invoke(group, list(arguments), prog_name="batcher")


def all_commands():
    """Every command and every command of a group, by what is typed."""
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", each) for sub, each in command.commands.items())


EVERY = dict(all_commands())


def test_alone_it_prints_a_short_help_and_all_is_well():
    done = typed()
    assert done.exit_code == 0
    assert len(done.output.splitlines()) < 12
    assert all(name in done.output for name in COMMANDS)


def test_the_help_has_the_commands_in_groups():
    lines = typed("--help").output.splitlines()
    headings = [line.rstrip(":") for line in lines if re.fullmatch(r"\w+:", line)]
    assert headings[-5:] == [*MENU, "Examples"]


@pytest.mark.parametrize(
    "name", [n for n, each in EVERY.items() if isinstance(each, click.Group)]
)
def test_what_a_command_of_a_group_does_is_said_whole(name):
    assert "..." not in typed(name, "--help").output.split("Commands:")[1]


@pytest.mark.parametrize("words", [["run"], ["prices", "show"], []])
def test_help_of_a_command_is_its_help(words):
    assert typed("help", *words).output == typed(*words, "--help").output
    assert typed(*words, "-h").output == typed(*words, "--help").output


def test_the_options_of_a_run_are_in_sections():
    lines = typed("run", "--help").output.splitlines()
    headings = [line[:-1] for line in lines if re.fullmatch(r"\w[\w ]+:", line)]
    assert headings == [
        "What is asked for", "Limits", "Money", "When it goes wrong", "Output", "Many workers",
        "Options", "Examples",
    ]  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_two_examples_stand_in_every_help(name):
    examples = EVERY[name].examples
    assert len(examples) == 2
    output = typed(*name.split(), "--help").output
    assert all(f"  {example}\n" in output for example in examples)


@pytest.mark.parametrize("name", EVERY)
def test_every_example_can_be_typed(name):
    for example in EVERY[name].examples:
        program, *arguments = shlex.split(example.split(" > ")[0])
        assert program == "batcher"
        if not isinstance(EVERY[name], click.Group):
            assert arguments[: len(name.split())] == name.split()
            EVERY[name].make_context(name, arguments[len(name.split()) :])


@pytest.mark.parametrize("name", EVERY)
def test_an_option_means_the_same_everywhere(name):
    longs = {"-m": "--model", "-e": "--endpoint", "-d": "--database", "-o": "--output",
             "-n": "--limit", "-q": "--quiet", "-v": "--verbose", "-y": "--yes"}  # fmt: skip
    for parameter in EVERY[name].params:
        shorts = [each for each in parameter.opts if not each.startswith("--")]
        if isinstance(parameter, click.Option):
            assert all(longs[short] in parameter.opts for short in shorts)
            for short, long in longs.items():
                assert long not in parameter.opts or short in parameter.opts


@pytest.mark.parametrize("name", EVERY)
def test_json_is_the_short_form_of_a_format(name):
    command = EVERY[name]
    if any("--json" in parameter.opts for parameter in command.params):
        (choice,) = [p.type.choices for p in command.params if "--format" in p.opts]
        assert "json" in choice


def test_both_words_for_json_print_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Hello"}\n')
    check = ("check", "rows.jsonl", "-m", "claude-haiku-4-5")
    assert typed(*check, "--json").output == typed(*check, "--format", "json").output
    assert typed(*check, "--json").output.startswith("{")
    assert typed(*check).output == typed(*check, "--format", "text").output


def test_a_toml_file_is_a_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Hello"}\n' * 3)
    (tmp_path / "other.jsonl").write_text('{"prompt": "Hello"}\n')
    (tmp_path / "job.toml").write_text('inputs = ["rows.jsonl"]\nmodel = "claude-haiku-4-5"\n')
    named = typed("run", "job.toml", "--dry-run")
    assert "3 requests to endpoint anthropic" in named.output
    assert named.output == typed("run", "--job", "job.toml", "--dry-run").output
    assert "1 request to" in typed("run", "job.toml", "other.jsonl", "--dry-run").output
    two = typed("run", "job.toml", "more.toml", "--dry-run")
    assert "more.toml: is a second job file" in str(two.exception)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("reprot",), "report"),
        (("prices", "lst"), "list"),
        (("run", "--modell", "x"), "--model"),
        (("report", "--by", "modle"), "model"),
    ],
)
def test_a_near_miss_is_told_what_was_meant(words, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = typed(*words)
    said = done.output + str(done.exception)
    assert re.search(rf"[Dd]id you mean '?{meant}\b", said), said


@pytest.mark.parametrize(
    ("words", "begun", "expected"),
    [
        ((), "rep", {"report", "reprice"}),
        (("run",), "--max-c", {"--max-cost"}),
        (("run", "-e"), "an", {"anthropic"}),
        (("run", "-m"), "claude-haiku-4", {"claude-haiku-4-5"}),
        (("report", "--by"), "stop", {"stop_reason"}),
        (("run", "--on-unknown"), "h", {"hold"}),
        (("prices",), "ra", {"ratings"}),
        (("export", "--columns"), "te", {"text"}),
        (("export", "--columns"), "custom_id,te", {"custom_id,text"}),
        (("help",), "rep", {"report", "reprice"}),
    ],
)
def test_a_shell_is_told_what_a_word_can_become(words, begun, expected):
    shell = ShellComplete(group, {}, "batcher", "_BATCHER_COMPLETE")
    assert expected <= {item.value for item in shell.get_completions(list(words), begun)}


def test_files_are_left_to_the_shell():
    shell = ShellComplete(group, {}, "batcher", "_BATCHER_COMPLETE")
    for words in (["run"], ["run", "--job"], ["report", "-d"], ["export", "-o"]):
        assert [item.type for item in shell.get_completions(words, "x")] == ["file"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_asks_this_program(shell):
    done = typed("completion", shell)
    assert done.exit_code == 0
    assert f"_BATCHER_COMPLETE={shell}_complete" in done.output


def test_a_report_loads_neither_engine_nor_pacing(tmp_path):
    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from batcher.cli.menu import group\n"
        "for words in (['db', 'upgrade'], ['report']):\n"
        "    done = CliRunner().invoke(group, [*words, '-d', 'x.db'])\n"
        "    assert done.exit_code == 0, done.output\n"
        "print(*sys.modules)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    rooms = (
        "batcher.pacing",
        "batcher.pipeline.engine",
        "batcher.pipeline.run",
        "batcher.wiring",
    )
    assert not [name for name in child.stdout.split() if name.startswith(rooms)]
