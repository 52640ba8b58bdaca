"""Commands and flags: what a user may type, and the exit codes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from detect import DETECTORS
from embed import ENCODERS, POOLINGS
from pipeline.exits import (
    CLIPS_LEFT_OUT,
    DONE,
    FAILED,
    INTERRUPTED,
    USAGE,
    UsageError,
    version_here,
)
from pipeline.job import print_tables, whole_job
from pipeline.names import names_of, slug
from pipeline.parts import encoder_class
from pipeline.run_folder import RunFolder
from pipeline.screen import messages, relay, say
from pipeline.settings import OUT, AnySettings, EmbedSettings, Settings, settings_of
from pipeline.sources import embed_all, find_dataset
from pipeline.systems import SYSTEMS

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
        for f in fields(kind)
    ]
    config = option("--config", OUT, "config.toml of an earlier run; flags given here win.")
    flags.append(
        inspect.Parameter(
            "config", keyword, default=None, annotation=Annotated[Path | None, config]
        )
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def parsed(context: typer.Context, config: Path | None, **values: Any) -> None:
            if context.invoked_subcommand is not None:
                return
            fields_here = {f.name: values.pop(f.name) for f in fields(kind)}
            given = {k: v for k, v in fields_here.items() if _is_given(context, k)}
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
    """End a command that is interrupted with a word on how to go on."""

    @wraps(command)
    def told(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            messages.print(
                "interrupted; what is finished is kept, the same command goes on from here"
            )
            raise typer.Exit(INTERRUPTED) from None

    return told


app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(version_here())  # noqa: T201
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
    if list_:
        _print_registries(settings.json)
        return
    raise typer.Exit(whole_job(settings))


@app.command("embed")
@with_flags(EmbedSettings)
@_resumable
def embed_command(settings: EmbedSettings) -> None:
    """Fill the cache only: embed the clips of --data, and stop there."""
    relay("embed", quiet=settings.quiet)
    relay("fetch", quiet=settings.quiet)
    pairs = [
        (encoder, pooling or encoder_class(encoder).default_pooling)
        for encoder in names_of(settings.encoder, ENCODERS, "encoder")
        for pooling in names_of(settings.pooling, POOLINGS, "pooling") or [""]
    ]
    with RunFolder.new(f"embed-{slug(settings.encoder)}", settings) as folder:
        sources, unusable = embed_all(settings, find_dataset(settings), pairs, folder)
        for source in sources.values():
            messages.print(f"{len(source.keys)} vectors in {source.path}")
        failed = FAILED if unusable else DONE
        raise typer.Exit(failed or (CLIPS_LEFT_OUT if folder.left_out else DONE))


@app.command("evaluate")
def evaluate_command(
    folder: Annotated[Path, typer.Argument(help="A folder of anomaly_score_*.csv files.")],
    json: Annotated[bool, option("--json", OUT, "Print results as JSON.")] = False,
) -> None:
    """Compute AUC and pAUC of the official DCASE score files of any system."""
    from report import evaluate_score_files

    rows, year = evaluate_score_files(folder)
    print_tables(rows, str(folder), year=year, as_json=json)


def main() -> int:
    """Run the command line; every error that a user can cause is one line."""
    try:
        return int(app(standalone_mode=False) or DONE)
    except typer.TyperException as error:
        return _failed(error.format_message(), error.exit_code)
    except UsageError as error:
        return _failed(str(error), USAGE)
    except (OSError, ValueError) as error:
        return _failed(str(error), FAILED)


def _failed(message: str, code: int) -> int:
    say("error", " ".join(message.split()), "red")
    return code


def _print_registries(as_json: bool) -> None:
    """Print every name that a flag takes, with a line on each."""
    registries: dict[str, Mapping[str, Any]] = {
        "encoders": ENCODERS,
        "poolings": POOLINGS,
        "detectors": DETECTORS,
        "systems": SYSTEMS,
    }
    if as_json:
        entries = {
            kind: [{"name": name, "about": row.about} for name, row in registry.items()]
            for kind, registry in registries.items()
        }
        print(json.dumps(entries, indent=2))  # noqa: T201
        return
    for kind, registry in registries.items():
        print(kind)  # noqa: T201
        for name, row in registry.items():
            print(f"  {name:<20} {row.about}")  # noqa: T201
