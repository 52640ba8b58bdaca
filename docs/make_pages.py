"""The parts of these pages that come from the code: options.md, the modules in architecture.md.

`python docs/make_pages.py` (or `make docs`) writes them; tests fail while they are out of date.
"""

import ast
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detect import DETECTORS, detector_options, facts_of
from embed import ENCODERS, POOLINGS
from ground.registry import Row
from pipeline.command_line import (
    check_command,
    compare_command,
    evaluate_command,
    feedback_command,
    learn_command,
    report_command,
    run,
    watch_command,
)
from pipeline.flags import Flag, OutputFlags
from pipeline.settings import CheckSettings, LearnSettings, Settings
from pipeline.systems import SYSTEMS
from pipeline.watching.watch_settings import WatchSettings

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ROOT / "docs" / "options.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- modules: made by docs/make_pages.py -->\n", "<!-- end of modules -->\n"
ROOMS = {
    "pipeline": "the jobs: what crosses the rooms",
    "report": "results become tables, score files, figures and pages",
    "embed": "recordings become waveforms, waveforms become vectors",
    "cache": "vectors are kept",
    "detect": "vectors become scores, scores become decisions and figures",
    "fetch": "weights and data sets from elsewhere",
    "ground": "what all rooms stand on",
}
INTRODUCTION = """\
# What there is to choose from

This page is made by `python docs/make_pages.py`. `python run_pipeline.py --list` prints its names.
Commas between names make a grid: `--detector knn,gmm`. An option of a part is set with
`--set NAME.option=value`, such as `--set knn.k=3`. It is swept with `--sweep knn.k=1,3,5`.
"""
VECTORS = """\
Vectors come from any pooling but `frames`, which gives sequences, and `bands`. A detector that
takes those gets them without a flag. [encoders.md](encoders.md) helps to choose an encoder.
"""
COMMANDS: list[tuple[str, Callable[..., None], type[OutputFlags] | None]] = [
    ("", run, Settings),
    (" learn", learn_command, LearnSettings),
    (" check", check_command, CheckSettings),
    (" watch", watch_command, WatchSettings),
    (" feedback", feedback_command, None),
    (" compare", compare_command, None),
    (" evaluate", evaluate_command, None),
    (" report", report_command, None),
]
"""Each command, its function, and the settings whose fields are flags of it."""
ABOUT = {
    "": "These are the flags of the whole job. `embed` has those of the panels Data, Embed and "
    "Output, but no `--scores`.\n",
    " learn": "`learn` has these, and those of the whole job that make one model.\n",
}


def code(text: object) -> str:
    return f"`{text}`" if str(text) else ""


def cell(text: str) -> str:
    return text.replace("|", r"\|")


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    headings = list(headings)
    lines = [headings, ["---"] * len(headings), *([*map(cell, row)] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def shown(value: object) -> str:
    """Write a default as `--set` takes it."""
    if isinstance(value, tuple):
        return ",".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def options(parameters: Mapping[str, object]) -> str:
    return ", ".join(code(f"{name}={shown(default)}") for name, default in parameters.items())


def fields_of(row: Row) -> dict[str, object]:
    """Return the options of an encoder or a pooling, each with its default."""
    fixed = {"weights", "backend", "precision", "device", "offline"}  # these are flags of their own
    defaults = {
        f.name: f.default_factory() if f.default_factory is not MISSING else f.default
        for f in fields(row.resolve())
        if f.name not in fixed and f.init
    }
    known = {**defaults, **row.options}
    return {name: "" if value is MISSING else value for name, value in known.items()}


def options_of_detector(name: str) -> dict[str, object]:
    parameters = signature(DETECTORS[name].resolve()).parameters
    defaults = {option: parameters[option].default for option in detector_options(name)}
    known = {**defaults, **{k: v for k, v in DETECTORS[name].options.items() if k in defaults}}
    return {k: "" if value is Parameter.empty else value for k, value in known.items()}


def system_rows() -> Iterator[list[str]]:
    for name, system in SYSTEMS.items():
        parts = "/".join(filter(None, (system.encoder, system.pooling, system.detector)))
        made_of = ", ".join(map(code, system.fuse or (parts,)))
        yield [code(name), system.about, made_of, ", ".join(map(code, system.set)), system.fit_per]


def kind_of(hint: Any) -> str:
    """Say what a flag takes: a number, one of some words, nothing."""
    if get_origin(hint) is Literal:
        return ", ".join(map(code, get_args(hint)))
    if inner := [each for each in get_args(hint) if each is not type(None)]:
        return kind_of(inner[0]) + (", repeatable" if get_origin(hint) is list else "")
    return {bool: "", int: "whole number", float: "number", Path: "path", str: "text"}[hint]


def default_of(field: Field[Any]) -> str:
    value = field.default
    is_unset = value is MISSING or value is None or value is False or value == ""
    return "" if is_unset else code(value)


def flag_rows(kind: type[OutputFlags], without: frozenset[str]) -> Iterator[list[str]]:
    """Describe the flags of a command, in the order of their panels."""
    hints = get_type_hints(kind, include_extras=True)
    described = []
    for field in fields(kind):
        if field.name in kind.not_flags or field.name in without:
            continue
        hint, flag = get_args(hints[field.name])
        assert isinstance(flag, Flag)
        about = flag.about.replace("[bold]", "`").replace("[/]", "`")
        names = ", ".join(map(code, flag.names.split()))
        described.append([flag.panel, names, kind_of(hint), default_of(field), about])
    panels = list(dict.fromkeys(row[0] for row in described))
    return iter(sorted(described, key=lambda row: panels.index(row[0])))


def rows_of_function(
    function: Callable[..., None], kind: type[OutputFlags] | None
) -> Iterator[list[str]]:
    """Describe the arguments and flags of a command that are no fields of `kind`."""
    others = {"context", *(f.name for f in fields(kind))} if kind else set()
    hints = get_type_hints(function, include_extras=True)
    for parameter in signature(function).parameters.values():
        if parameter.name in others:
            continue
        hint, info = get_args(hints[parameter.name])
        said = [n for n in (info.default, *(info.param_decls or ())) if isinstance(n, str)]
        names = " ".join(said).replace("/", " ") or parameter.name.upper()
        is_unset = parameter.default in (Parameter.empty, None, False, "")
        default = "" if is_unset else code(parameter.default)
        shown_names = ", ".join(map(code, names.split()))
        yield [info.rich_help_panel or "", shown_names, kind_of(hint), default, info.help]


def sections() -> Iterator[str]:
    yield INTRODUCTION
    yield "## Encoders\n"
    rows = [[code(n), row.about, options(fields_of(row))] for n, row in ENCODERS.items()]
    yield table(["`--encoder`", "what it is", "options and defaults"], rows)
    yield "## Poolings\n"
    rows = [[code(n), row.about, options(fields_of(row))] for n, row in POOLINGS.items()]
    yield table(["`--pooling`", "from frames to one vector per clip", "options and defaults"], rows)
    yield "## Detectors\n"
    yield VECTORS
    rows = [
        [code(n), facts_of(n).takes, row.about, options(options_of_detector(n))]
        for n, row in DETECTORS.items()
    ]
    yield table(["`--detector`", "takes", "how a clip is judged", "options and defaults"], rows)
    yield "## Systems\n"
    yield "[systems.md](systems.md) says where each comes from and what was checked.\n"
    headings = ["`--system`", "what it is", "encoder/pooling/detector", "options", "fitted per"]
    yield table(headings, system_rows())
    whole_job = frozenset(f.name for f in fields(Settings))
    headings = ["panel", "flag", "takes", "default", "what it does"]
    for command, function, kind in COMMANDS:
        yield f"## Flags of `python run_pipeline.py{command}`\n"
        yield from filter(None, [ABOUT.get(command)])
        without = whole_job if kind is LearnSettings else frozenset()
        rows = [*rows_of_function(function, kind)]
        yield table(headings, [*rows, *(flag_rows(kind, without) if kind else ())])


def options_page() -> str:
    return "\n".join(sections())


def modules() -> str:
    """List every module of the rooms with the first line of its docstring."""
    lines = []
    for room, about in ROOMS.items():
        lines.append(f"\n### {room}: {about}\n\n| module | what it is |\n| --- | --- |\n")
        for path in sorted((ROOT / room).rglob("*.py"), key=lambda path: (len(path.parts), path)):
            name = path.relative_to(ROOT).as_posix()
            said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            shown = name.removeprefix(f"{room}/").replace("__", r"\_\_")
            lines.append(f"| [{shown}](../{name}) | {cell(said.partition(chr(10))[0])} |\n")
    return "".join(lines) + "\n"


def architecture_page(page: str) -> str:
    """Replace the list of modules in the page."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + modules() + END + rest.partition(END)[2]


def main() -> None:
    OPTIONS.write_text(options_page(), encoding="utf-8")
    page = architecture_page(ARCHITECTURE.read_text(encoding="utf-8"))
    ARCHITECTURE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
