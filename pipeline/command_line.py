"""Commands and flags: what a user may type, and the exit codes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args, get_type_hints

import typer

from detect import DETECTORS
from embed import ENCODERS, POOLINGS
from ground.text import one_line
from ground.versions import installed_version
from pipeline.exits import (
    CLIPS_LEFT_OUT,
    DONE,
    FAILED,
    INTERRUPTED,
    USAGE,
    UsageError,
)
from pipeline.flags import IN, JUDGE, OUT, EmbedFlags, OutputFlags
from pipeline.interrupts import end_at_the_next
from pipeline.screen import messages, say
from pipeline.settings import (
    AnySettings,
    CheckSettings,
    EmbedSettings,
    LearnSettings,
    Settings,
    flag_of,
    refuse_empty,
    settings_of,
)
from pipeline.systems import SYSTEMS
from pipeline.watching.watch_settings import WatchSettings

PROMISE = (
    "Tell, per machine, how anomalous each clip is.\n\n"
    "Embeds the clips of --data with a frozen encoder, keeps the vectors, fits a detector to the "
    "normal training clips of each machine and reports AUC and pAUC on its test clips."
)


def with_flags(
    kind: type[AnySettings],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of `kind` as its flags, and `kind` itself as its argument."""
    hints = get_type_hints(kind, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    flags: list[inspect.Parameter] = [
        inspect.Parameter(
            f.name,
            keyword,
            default=f.default if f.default is not MISSING else [],
            annotation=_option(hints[f.name]),
        )
        for f in _flags_of(kind)
    ]
    config = option("--config", OUT, "config.toml of an earlier run; flags given here win.")
    if issubclass(kind, EmbedFlags):
        hint = Annotated[Path | None, config]
        flags.append(inspect.Parameter("config", keyword, default=None, annotation=hint))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def parsed(context: typer.Context, config: Path | None = None, **values: Any) -> None:
            if context.invoked_subcommand is not None:
                return
            fields_here = {f.name: values.pop(f.name) for f in _flags_of(kind)}
            given = {k: v for k, v in fields_here.items() if _is_given(context, k)}
            refuse_empty(given)
            command(settings_of(kind, given, config), **values)

        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        own = [p.replace(kind=keyword) for p in own]
        parameters = [
            inspect.Parameter("context", keyword, annotation=typer.Context),
            *flags,
            *own,
        ]
        parsed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        parsed.__annotations__ = {p.name: p.annotation for p in parameters}
        return parsed

    return decorate


def _flags_of(kind: type[OutputFlags]) -> list[Field[Any]]:
    return [f for f in fields(kind) if f.name not in kind.not_flags]


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def option(names: str, panel: str, about: str, **more: Any) -> Any:
    """Describe one option of a command."""
    return typer.Option(*names.split(), help=about, rich_help_panel=panel, **more)


def _option(hint: Any) -> Any:
    """Turn the `Flag` in a field's annotation into an option of the command line."""
    kind, flag = get_args(hint)
    least = {} if flag.least is None else {"min": flag.least}
    return Annotated[kind, option(flag.names, flag.panel, flag.about, **least)]


def _resumable(command: Callable[..., None]) -> Callable[..., None]:
    """End a command that is interrupted with a line on how to go on."""

    @wraps(command)
    def interruptible(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            end_at_the_next()
            messages.print(
                "interrupted; what is finished is kept, the same command goes on from here"
            )
            raise typer.Exit(INTERRUPTED) from None

    return interruptible


app = typer.Typer(
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(installed_version())  # noqa: T201
        raise typer.Exit()


@app.callback(invoke_without_command=True, help=PROMISE)
@with_flags(Settings)
@_resumable
def run(
    settings: Settings,
    list_: Annotated[
        bool, option("--list", OUT, "List encoders, poolings, detectors and systems.")
    ] = False,
    show_version: Annotated[
        bool, option("--version", OUT, "Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Run the whole job."""
    from pipeline.job import run_job
    from pipeline.printing import print_job, print_registries

    if list_:
        registries: dict[str, Mapping[str, Any]] = {
            "encoders": ENCODERS,
            "poolings": POOLINGS,
            "detectors": DETECTORS,
            "systems": SYSTEMS,
        }
        print_registries(registries, as_json=settings.json)
        return
    if settings.shard:
        _embed_and_end(settings)
    job = run_job(settings)
    print_job(job, settings)
    if not settings.quiet:
        messages.print(f"written to {job.folder}")
    raise typer.Exit(FAILED if job.failed else CLIPS_LEFT_OUT if job.left_out else DONE)


@app.command("embed")
@with_flags(EmbedSettings)
@_resumable
def embed_command(settings: EmbedSettings) -> None:
    """Fill the cache only: embed the clips of --data, and stop there."""
    _embed_and_end(settings)


def _embed_and_end(settings: EmbedSettings | Settings) -> NoReturn:
    """Fill the cache, say where the vectors are, and end with the exit code."""
    from pipeline.embedding_only import embed_only

    done = embed_only(settings)
    for source in done.sources:
        messages.print(f"{len(source.keys)} vectors in {source.path}")
    raise typer.Exit(FAILED if done.failed else CLIPS_LEFT_OUT if done.left_out else DONE)


@app.command("learn")
@with_flags(LearnSettings)
@_resumable
def learn_command(
    settings: LearnSettings,
    recordings: Annotated[
        str,
        typer.Argument(help="A folder per machine with normal recordings, or any other layout."),
    ],
) -> None:
    """Learn how machines sound from normal recordings alone; then `check` judges new ones."""
    from pipeline.learning import learn_model
    from pipeline.printing import print_learned
    from pipeline.recalibrating import recalibrate_model

    settings = replace(settings, data=recordings)
    if settings.with_feedback and not settings.recalibrate:
        raise UsageError("--with-feedback is for --recalibrate")
    learned = recalibrate_model(settings) if settings.recalibrate else learn_model(settings)
    print_learned(learned, settings)
    raise typer.Exit(FAILED if learned.failed else CLIPS_LEFT_OUT if learned.left_out else DONE)


@app.command("check")
@with_flags(CheckSettings)
@_resumable
def check_command(
    settings: CheckSettings,
    recordings: Annotated[
        str, typer.Argument(help="A recording, a folder, a manifest, or - for standard input.")
    ],
) -> None:
    """Judge new recordings by a model: normal, suspicious or anomalous, and why."""
    from pipeline.verdicts import check_and_print

    raise typer.Exit(check_and_print(recordings, settings))


@app.command("compare")
def compare_command(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders, grids, folders of score files; the first counts."),
    ],
    against: Annotated[
        str, option("--against", IN, "Name of the run that the others are compared with.")
    ] = "",
    labels: Annotated[
        Path | None, option("--labels", IN, "A CSV manifest whose labels are used.")
    ] = None,
    page: Annotated[
        Path | None, option("--page", OUT, "Write a page with the differences as a picture.")
    ] = None,
    json: Annotated[bool, option("--json", OUT, "Print the comparison as JSON.")] = False,
) -> None:
    """Tell whether runs differ on the clips they share: AUC and pAUC, intervals, p-values."""
    from pipeline.comparing import compare_runs
    from pipeline.printing import print_comparison

    result = compare_runs(runs, against=against, labels=labels)
    print_comparison(result, as_json=json)
    if page is not None:
        from report.comparison_page import write_comparison

        write_comparison(page, result.compared)
        messages.print(f"written to {page}")


@app.command("watch")
@with_flags(WatchSettings)
@_resumable
def watch_command(
    settings: WatchSettings,
    source: Annotated[
        str,
        typer.Argument(help="A folder, - for standard input, mic, or a TOML file of sources."),
    ],
) -> None:
    """Watch machines for months, and raise an alarm when one sounds anomalous."""
    from pipeline.watching.watch import watch

    raise typer.Exit(watch(source, settings))


@app.command("feedback")
def feedback_command(
    alarm: Annotated[str, typer.Argument(help="The id of an alarm, or its beginning.")],
    normal: Annotated[
        bool | None,
        option(
            "--normal/--anomalous",
            JUDGE,
            "What you found when you went to look.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, option("--out", OUT, "Folder of the watch.")] = Path("watch"),
) -> None:
    """Keep your word on an alarm, for `learn --recalibrate --with-feedback`."""
    from pipeline.watching.feedback import give_feedback

    if normal is None:
        raise UsageError("say what you found: --normal or --anomalous")
    kept, windows = give_feedback(alarm, "normal" if normal else "anomalous", out)
    where = (
        f"{len(windows)} windows in {windows[0].parent}" if windows else "no sound is kept of it"
    )
    messages.print(f"{kept.message.machine}, alarm {kept.id}: {kept.feedback}; {where}")


@app.command("evaluate")
def evaluate_command(
    folder: Annotated[
        Path, typer.Argument(help="A run folder, a grid, or a folder of anomaly_score_*.csv.")
    ],
    labels: Annotated[
        Path | None, option("--labels", IN, "A CSV manifest with the labels of the clips.")
    ] = None,
    json: Annotated[bool, option("--json", OUT, "Print results as JSON.")] = False,
) -> None:
    """Compute AUC and pAUC of a run, a grid, or the DCASE score files of any system."""
    from pipeline.evaluating import evaluate
    from pipeline.printing import print_evaluation

    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    print_evaluation(evaluate(folder, labels), str(folder), as_json=json)


@app.command("report")
def report_command(
    run: Annotated[Path, typer.Argument(help="A run folder, or a grid.")],
    data: Annotated[
        Path | None, option("--data", IN, "Where the recordings are now, if they were moved.")
    ] = None,
    cache_dir: Annotated[
        Path | None, option("--cache-dir", IN, "Where its vectors are, if not where they were.")
    ] = None,
    page_clips: Annotated[
        int | None, option("--page-clips", OUT, flag_of("page_clips").about, min=0)
    ] = None,
    map_: Annotated[
        Literal["pca", "umap"] | None, option("--map", OUT, flag_of("map").about)
    ] = None,
    figures: Annotated[str | None, option("--figures", OUT, flag_of("figures").about)] = None,
    trust_classes: Annotated[
        bool, option("--trust-classes", JUDGE, flag_of("trust_classes").about)
    ] = False,
) -> None:
    """Write the pages and figures of a finished run again."""
    from pipeline.reporting import rebuild_report

    flags = {
        "data": None if data is None else str(data),
        "cache_dir": cache_dir,
        "page_clips": page_clips,
        "map": map_,
        "figures": figures,
        "trust_classes": trust_classes or None,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    for page in rebuild_report(run, **given):
        messages.print(f"written to {page}")


def main() -> int:
    """Run the command line; every error that a user can cause is one line."""
    try:
        return int(app(standalone_mode=False) or DONE)
    except typer.TyperException as error:
        return _failed(error.format_message(), error.exit_code)
    except UsageError as error:
        return _failed(one_line(error), USAGE)
    except (OSError, ValueError, MemoryError, RecursionError) as error:
        return _failed(one_line(error), FAILED)


def _failed(message: str, code: int) -> int:
    say("error", " ".join(message.split()), "red")
    return code
