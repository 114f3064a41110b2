"""Writing a method, benchmark, encoder or ranker of one's own, and checking it."""

from __future__ import annotations

from typing import Annotated

import typer

from trireme.cli.base import examples, finish, group

commands = group("")
_KIND = "method, benchmark, encoder or ranker."


@commands.command(epilog=examples("trireme new method mine", "trireme new benchmark birds --into plugins"))
def new(
    kind: Annotated[str, typer.Argument(help=_KIND)],
    name: Annotated[str, typer.Argument(help="What runs will call it: small letters, digits, - and _.")],
    into: Annotated[str, typer.Option(help="Where its folder is made.")] = ".",
) -> None:
    """Write a package that works, to be changed.

    The folder NAME holds pyproject.toml with the entry point, code with its config dataclass, a test that uses
    `trireme.conformance`, and a README. Install it by `pip install -e NAME`.
    """
    from trireme.commands.new import new as command

    finish(command(kind, name, into))


@commands.command(
    epilog=examples(
        "trireme check method mine",
        "trireme check method knn k=10 temperature=0.1",
        "trireme check encoder open_clip model=ViT-B-32 pretrained=openai",
        "trireme check benchmark world/tiny --rule stable --rule score",
    )
)
def check(
    kind: Annotated[str, typer.Argument(help=_KIND)],
    name: Annotated[str, typer.Argument(help="A name that `trireme ls` prints.")],
    options: Annotated[list[str] | None, typer.Argument(metavar="FIELD=VALUE...", show_default=False)] = None,
    rule: Annotated[list[str] | None, typer.Option(help="Only this rule; may be given again.")] = None,
) -> None:
    """Hold it against the rules of its kind, one line a rule.

    Methods are tried on mock tasks of every kind that they declare, which come with Trireme and take seconds. Exits
    with 1 where a rule is broken. The same from a test: `trireme.conformance.check_method("mine")`.
    """
    from trireme.commands.check import check as command

    finish(command(kind, name, options or [], rule or []))
