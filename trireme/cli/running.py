"""`trireme run`: the comparison itself."""

from __future__ import annotations

from typing import Annotated

import typer

from trireme.cli.base import examples, finish, group

commands = group("")


@commands.command(
    epilog=examples(
        "trireme run suite=world",
        "trireme run method=knn,reco benchmark=world/food,world/animals seed=0,1,2",
        "trireme run method=reco benchmark=world/all method.reco.k=16 encoder=lite memory=world memory.index=hnsw",
        "trireme run method=zero_shot,knn benchmark=folder:photos/test memory=folder:photos/train",
        "trireme run method=knn,reco benchmark=world/all memory=world@1,world@2,world@4 seed=0,1,2,3,4",
        "trireme run method=zero_shot benchmark=csv:cars.csv encoder=open_clip encoder.model=ViT-B-32",
        "trireme run method=rar-list benchmark=csv:cars.csv memory=csv:cars.csv ranker.model=llava-hf/llava-1.5-7b-hf",
    )
)
def run(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)] = None,
) -> None:
    """Compare methods on benchmarks; finished runs are not computed again.

    A run is method x benchmark x encoder x memory x seed; every combination asked for is computed.

    \b
    Keys:
      suite=NAME             a named set of benchmarks and methods; the keys below replace its lists
      method=NAME,...        see `trireme ls methods`; method.NAME.FIELD=VALUE changes one setting
      benchmark=NAME,...     see `trireme ls benchmarks`; folder:PATH, csv:PATH and the like are yours;
                             benchmark.KEY=VALUE gives an option, such as benchmark.label=COLUMN
      encoder=NAME,...       lite by default; encoder.FIELD=VALUE changes one setting
      memory=NAME,...        see `trireme ls memories`; folder:PATH, csv:PATH and the like are yours; none;
                             NAME@N draws N pictures a class with the run's seed, memory.draw=RULE says how
      ranker.FIELD=VALUE     of the multimodal models that rar asks, see `trireme ls rankers`
      seed=N,...             0 by default
      role=validation        score validation pictures instead of test pictures
      out=FOLDER             where run records go (out)
      device= dtype=         where and how the encoder computes (auto, float32)
      batch_size= workers=   samples per stored batch, threads that read pictures; no result depends on them
    """
    from trireme.commands.run import run as command

    finish(command(arguments or []))
