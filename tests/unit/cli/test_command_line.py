"""The frame of the command line: where options may stand, how results look, what exit codes mean."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from botocore.exceptions import ClientError, EndpointConnectionError

from holdfast import errors
from holdfast.cli import main
from holdfast.cli.context import CommandContext, remote_error
from holdfast.cli.main import hoist, run
from holdfast.cli.output import Format, Progress, check_query, printable, render

ROOT = Path(__file__).parents[3]


def the_command_that(happens: Callable[[], Any]) -> Iterator[None]:
    """`holdfast probe` for one test: a command that does what the test says."""

    def probe(context: typer.Context) -> None:
        context.obj.emit(happens())

    main.app.command("probe")(probe)
    yield
    main.app.registered_commands.pop()


@pytest.fixture
def probe() -> Iterator[Callable[[Callable[[], Any]], None]]:
    commands: list[Iterator[None]] = []

    def install(happens: Callable[[], Any]) -> None:
        command = the_command_that(happens)
        next(command)
        commands.append(command)

    yield install
    for command in commands:
        next(command, None)


def raising(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    "words,expected",
    [
        ("points list --output yaml --instance i-1", "--output yaml points list --instance i-1"),
        ("points list --output=yaml", "--output=yaml points list"),
        ("points --query [0] list --debug", "--query [0] --debug points list"),
        ("simulate deploy --simulate d --quiet", "--simulate d --quiet simulate deploy"),
        ("snapshot i-1 --tag a=--output", "snapshot i-1 --tag a=--output"),
        ("points list -- --output yaml", "points list -- --output yaml"),
        ("points list --instance=i-1", "points list --instance=i-1"),
    ],
)
def test_global_options_may_stand_anywhere(words: str, expected: str) -> None:
    assert hoist(words.split()) == expected.split()


@pytest.mark.parametrize(
    "words",
    [
        "",
        "points lst",
        "points list",
        "points list --output",
        "--output xml points list --instance i-1",
        "points list --instance i-1 --query [",
        "points list --instance i-1 --kind tape",
        "restore volume --instance i-1",
        "--unknown",
    ],
)
def test_wrong_usage_is_exit_code_2_with_nothing_on_standard_output(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == "" or "Usage" in shown.out
    assert "Traceback" not in shown.err


def test_help_and_version_are_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert run(["restore", "-h"]) == 0
    assert "image" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error,code",
    [
        (errors.ConfigurationError("The file is wrong.", resource="config/roles.yaml"), 1),
        (errors.NotFoundError("There is no such point.", resource="p1"), 4),
        (errors.DamagedError("A pack is damaged.", resource="packs/ab/abc"), 1),
        (ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "Query"), 1),
        (ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "no"}}, "Query"), 4),
        (EndpointConnectionError(endpoint_url="https://dynamodb"), 1),
        (PermissionError(13, "Permission denied", "/mnt/disk.raw"), 1),
        (typer.Exit(3), 3),
        (typer.Abort(), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_are_told_in_one_line_and_by_exit_code(
    probe: Any, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    probe(raising(error))
    assert run(["probe"]) == code
    shown = capsys.readouterr()
    assert (shown.out, "Traceback" in shown.err) == ("", False)
    if code in (1, 4):
        assert shown.err.startswith("holdfast: ")


def test_the_error_names_resource_and_remedy(probe: Any, capsys: pytest.CaptureFixture[str]) -> None:
    probe(raising(errors.ConfigurationError("Wrong role.", resource="roles.yaml:3", remedy="Correct it.")))
    run(["probe"])
    assert capsys.readouterr().err == "holdfast: roles.yaml:3: Wrong role. Correct it.\n"


def test_debug_shows_the_traceback(probe: Any) -> None:
    probe(raising(errors.ConfigurationError("The file is wrong.")))
    with pytest.raises(errors.ConfigurationError):
        run(["probe", "--debug"])


def test_a_defect_keeps_its_traceback(probe: Any) -> None:
    probe(raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        run(["probe"])


def test_control_characters_of_an_error_do_not_reach_the_terminal(
    probe: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    probe(raising(errors.NotFoundError("There is no \x1b[2J\u202ename.")))
    run(["probe"])
    assert capsys.readouterr().err == "holdfast: There is no \ufffd[2J\ufffdname.\n"


def test_results_go_to_standard_output_and_can_be_queried(
    probe: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    probe(lambda: [{"id": 1}, {"id": 2}])
    assert run(["probe", "--query", "[].id"]) == 0
    assert json.loads(capsys.readouterr().out) == [1, 2]


def test_a_query_is_checked_before_anything_is_done(probe: Any) -> None:
    done: list[bool] = []
    probe(lambda: done.append(True))
    assert run(["probe", "--query", "[?"]) == 2
    assert done == []


def test_a_query_that_does_not_fit_the_result_is_wrong_usage(probe: Any) -> None:
    probe(lambda: {"id": "text"})
    assert run(["probe", "--query", "sum(id)"]) == 2


ROWS = [{"name": "web", "size": 1, "tags": {"a": "b"}}, {"name": "db", "size": None}]


def test_json_is_the_default_format() -> None:
    assert json.loads(render(ROWS, Format.JSON)) == ROWS


def test_yaml_holds_the_same(tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    assert YAML(typ="safe").load(render(ROWS, Format.YAML)) == ROWS


def test_text_is_one_line_a_row_with_tabs_between() -> None:
    assert render(ROWS, Format.TEXT) == 'web\t1\t{"a": "b"}\ndb\t'
    assert render(["a", 2], Format.TEXT) == "a\n2"


def test_a_table_has_every_column_of_every_row() -> None:
    table = render(ROWS, Format.TABLE)
    assert all(word in table for word in ("name", "size", "tags", "web", "db"))


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize("hostile", ["\x1b[31mred", "a\u202eb", "x\x00y", "tab\tand\nbreak\r", "\x9b2J"])
def test_names_from_outside_cannot_act_on_the_terminal(form: Format, hostile: str) -> None:
    shown = render([{"name": hostile, "next": "z"}], form)
    assert not any(character in shown for character in "\x1b\u202e\x00\r\x9b")
    if form is Format.TEXT:
        assert len(shown.splitlines()) == 1
        assert len(shown.split("\t")) == 2


def test_markup_in_a_name_is_shown_as_it_is() -> None:
    assert "[bold]web[/bold]" in render([{"name": "[bold]web[/bold]"}], Format.TABLE)


def test_an_empty_query_needs_no_check() -> None:
    check_query("")


def test_printable_leaves_words_alone() -> None:
    assert printable("Größe – 日本") == "Größe – 日本"


def test_progress_goes_to_standard_error_and_repeats_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.update("half")
    progress.update("half")
    progress.say("done")
    with progress.task("more"):
        pass
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "half\ndone\nmore\n")


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(quiet=True)
    progress.say("done")
    progress.update("half")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_a_function_reported_is_the_same_error_here(wrapped: bool) -> None:
    told = {
        "code": "KeyUnavailable",
        "message": "The key is disabled.",
        "resource": "key/1",
        "remedy": "Enable it.",
    }
    cause = json.dumps(told)
    if wrapped:
        cause = json.dumps({"errorType": "PermanentError", "errorMessage": cause})
    error = remote_error("PermanentError", cause)
    assert type(error) is errors.KeyUnavailableError
    assert str(error) == "key/1: The key is disabled. Enable it."


@pytest.mark.parametrize(
    "cause", ["", "Task timed out", "[]", "{}", '{"errorMessage": "killed"}', '{"message": 1']
)
def test_what_nobody_formatted_is_told_as_it_came(cause: str) -> None:
    error = remote_error("Sandbox.Timedout", cause)
    assert type(error) is errors.HoldfastError
    assert "Sandbox.Timedout" in str(error)
    assert cause in str(error)


def test_an_unknown_code_is_an_error_all_the_same() -> None:
    error = remote_error("PermanentError", json.dumps({"code": "annotations", "message": "Odd."}))
    assert (type(error), str(error)) == (errors.HoldfastError, "Odd.")


def test_nobody_to_ask_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(typer.BadParameter, match="--yes"):
        context().confirm("Go on?", yes=False)


def test_yes_is_not_asked_again() -> None:
    context().confirm("Go on?", yes=True)


@pytest.mark.parametrize("answer", ["n", "y"])
def test_only_a_yes_goes_on(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self, *_: Any) -> str:
            return f"{answer}\n"

        def __iter__(self) -> Iterator[str]:
            return iter([f"{answer}\n"])

    monkeypatch.setattr("sys.stdin", Terminal())
    if answer == "y":
        context().confirm("Go on?", yes=False)
    else:
        with pytest.raises(errors.ConfigurationError, match="Nothing was done"):
            context().confirm("Go on?", yes=False)


def test_without_simulate_there_is_no_simulation() -> None:
    with pytest.raises(errors.ConfigurationError, match="--simulate DIR"):
        context().require_simulator()


def context() -> CommandContext:
    return CommandContext(
        profile="",
        region_option="",
        output=Format.JSON,
        query="",
        simulate="",
        configuration_directory="config",
        installation_option="",
        quiet=True,
        verbose=False,
    )


def test_a_reader_that_went_away_is_no_traceback() -> None:
    program = "from holdfast.cli.main import main; import sys; sys.argv[1:] = ['config', 'schema']; main()"
    shell = f'{sys.executable} -c "{program}" | head -c 10'
    environment = {"PYTHONPATH": str(ROOT / "layers/core/python"), "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(shell, shell=True, capture_output=True, text=True, env=environment, check=False)  # noqa: S602
    assert ended.stdout == '{\n  "$sche'
    assert "Traceback" not in ended.stderr
