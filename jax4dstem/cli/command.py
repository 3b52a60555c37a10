"""How a function becomes a command: groups of options, examples in its help, errors in one line."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import typer

from jax4dstem.cli.failures import one_line_errors


def command(group: typer.Typer, *examples: str) -> Callable[[Callable], Callable]:
    """Decorator: add a function to a group of commands.

    A parameter that is a dataclass stands for its fields: each is an option of the command, and the function receives
    the dataclass.

    Args:
        group: Where the command is added; its name is that of the function.
        examples: Lines that the help shows, without the program's name.
    """
    epilog = examples_in_words(*examples)

    def register(run: Callable) -> Callable:
        paragraphs = (inspect.getdoc(run) or "").split("\n\n")
        help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        group.command(name=run.__name__, help=help, epilog=epilog)(_expanded(run))
        return run

    return register


def examples_in_words(*examples: str) -> str:
    """Examples as the end of a help shows them; lines without the program's name."""
    return "Examples:\n\n" + "\n\n".join(f"jax4dstem {example}" for example in examples)


def _expanded(run: Callable) -> Callable:
    """The function with every field of its dataclass parameters as a keyword of its own."""
    parameters = inspect.signature(run).parameters.values()
    groups: dict[str, Any] = {
        p.name: p.annotation for p in parameters if dataclasses.is_dataclass(p.annotation)
    }
    expanded = []
    for parameter in parameters:
        fields = _fields(groups[parameter.name]) if parameter.name in groups else [parameter]
        expanded += [field.replace(kind=inspect.Parameter.KEYWORD_ONLY) for field in fields]

    def call(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{f.name: given.pop(f.name) for f in dataclasses.fields(kind)})
        with one_line_errors(given.get("out")):
            run(**given)

    call.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in expanded}
    return call


def _fields(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(kind)
    ]
