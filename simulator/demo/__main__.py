"""Entry of ``make demo``: builds the scene, tells the story, prints the proof.

Exit code 0 only when every restored volume was proven equal to its source.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from holdfast.planning.prices import request_cost
from simulator.demo.images import MissingToolError
from simulator.demo.scene import build
from simulator.demo.story import Proof, Story
from simulator.demo.terminal import CommandFailedError, Terminal


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the demonstration."""
    parser = argparse.ArgumentParser(prog="make demo ARGS=...", description=__doc__)
    parser.add_argument(
        "--image", type=Path, action="append", default=[], help="a raw disk image of yours; may be repeated"
    )
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument(
        "--directory", type=Path, help="keep disks and the simulated AWS here (must not exist)"
    )
    options = parser.parse_args(arguments)
    for image in options.image:
        if not image.is_file() or not image.stat().st_size:
            parser.error(f"--image {image}: no such file, or it is empty")
    if options.directory and options.directory.exists():
        parser.error(f"--directory {options.directory} exists already")
    return options


def result(
    proofs: Sequence[Proof], requests: Mapping[str, int], totals: Mapping[str, int], seconds: float
) -> dict[str, Any]:
    """The machine-readable result."""
    return {
        "proved": bool(proofs) and all(proof.holds for proof in proofs),
        "volumes": [proof.to_json() for proof in proofs],
        **totals,
        "requests": dict(sorted(requests.items())),
        "cost_usd": round(request_cost(requests), 6),
        "seconds": round(seconds, 1),
    }


def show(console: Console, told: Mapping[str, Any]) -> None:
    """The summary table."""
    table = Table(
        "instance", "device", "size", "restore point", "kind", "restored as", "SHA-256", title="Proof"
    )
    for volume in told["volumes"]:
        same = volume["source_sha256"] == volume["restored_sha256"]
        table.add_row(
            volume["instance"],
            volume["device"],
            f"{volume['size_bytes'] / (1 << 30):.1f} GiB",
            volume["restore_point"],
            volume["kind"],
            volume["how"],
            f"{'equal' if same else 'DIFFERENT'} {volume['restored_sha256'][:16]}",
        )
    console.print(table)
    spent = Table("request", "count", "USD", title="Requests by API")
    for name, count in told["requests"].items():
        if cost := request_cost({name: count}):
            spent.add_row(name, str(count), f"{cost:.6f}")
    console.print(spent)
    console.print(
        f"read {told['bytes_read'] / 1e6:.1f} MB, stored {told['bytes_stored'] / 1e6:.1f} MB, "
        f"requests for {told['cost_usd']:.4f} USD, {told['seconds']:.0f} s",
        highlight=False,
    )
    console.print(
        "PROVED" if told["proved"] else "NOT PROVED", style="bold green" if told["proved"] else "bold red"
    )


def main(arguments: Sequence[str]) -> int:
    """Run the demonstration and return its exit code."""
    options, began = parse(arguments), time.monotonic()
    console = Console(width=None if sys.stdout.isatty() else 150)
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as temporary:
        directory = options.directory or Path(temporary) / "demo"
        directory.mkdir(parents=True)
        try:
            console.rule("[bold]Build real file systems", align="left")
            scene = build(
                directory, options.image, say=lambda text: console.print(f"  {text}", highlight=False)
            )
            terminal = Terminal(console, ("--simulate", str(scene.aws)))
            story = Story(scene, terminal)
            proofs = story.tell()
            counted = Counter(terminal.run("simulate", "requests")["requests"])
        except (MissingToolError, CommandFailedError) as error:
            console.print(f"NOT PROVED: {error}", style="bold red", markup=False)
            return 1
        told = result(proofs, counted - story.before, story.totals, time.monotonic() - began)
    show(console, told)
    if options.json:
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    return 0 if told["proved"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
